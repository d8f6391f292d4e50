"""Speed and memory of the fits: `make bench`. Every number is a ratio of medians of alternating runs in one process.

Three parts: the linear fit against the bare matrix product and PLSSVD; the CLIP fit against L-BFGS and AdamW on the
factors, each timed until it has the same value, 1e-6 above the minimum; the memory of a CLIP fit above its data.
"""

import argparse
import statistics
import subprocess
import sys
import time

import numpy as np
import scipy.optimize
import torch
import torch.nn.functional as F
from sklearn.cross_decomposition import PLSSVD
from tqdm import tqdm

from mmcl.data import spiked
from mmcl.losses import CLIP
from mmcl.spectral import fit
from mmcl.training import random_encoders

RANK, RHO, EXCESS, TOL = 10, 1.0, 1e-6, 1e-3
REPEATS = {300: 7, 2000: 5, 10_000: 1}  # one L-BFGS run at n = 10,000 takes minutes
RATES = [0.3, 0.1, 0.03, 0.01]  # of AdamW
TABLE = []


def note(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def add(what, measured, target, met):
    TABLE.append((what, measured, target, "yes" if met else "NO"))
    note(f"{what}: {measured} (target {target})")


def alternate(contenders, repeats):
    """name -> median seconds, every contender once a round; a first, untimed round warms up if repeats allow it."""
    seconds = {name: [] for name in contenders}
    for turn in tqdm(range(repeats + (repeats > 1)), desc=", ".join(contenders), leave=False):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if turn or repeats == 1:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(s) for name, s in seconds.items()}


def linear(n=100_000, d=256, rank=16, repeats=5):
    generator = torch.Generator().manual_seed(0)
    x, x_tilde = (torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(2))
    a, b = x.numpy(), x_tilde.numpy()
    seconds = alternate(
        {
            "product": lambda: x.mT @ x_tilde,
            "fit": lambda: fit(x, x_tilde, rank),
            "PLSSVD": lambda: PLSSVD(n_components=rank, scale=False).fit(a, b),
        },
        repeats,
    )
    what = f"linear fit, n = {n:,}, d = {d}, rank {rank}: {seconds['fit']:.2f} s"
    for other, target, limit in (("product", "<= 1.5", 1.5), ("PLSSVD", "< 1", 1.0)):
        ratio = seconds["fit"] / seconds[other]
        add(f"{what} / {other} {seconds[other]:.2f} s", f"{ratio:.2f}", target, ratio <= limit)


class Reached(Exception):
    """The target value was met: stop."""


def cross_entropy(x, x_tilde):
    """CLIP at tau = 1 with its penalty, on the factors, as it is usually written."""
    own = torch.arange(len(x))

    def objective(g1, g2):
        s = (x @ g1.mT) @ (x_tilde @ g2.mT).mT
        return (F.cross_entropy(s, own) + F.cross_entropy(s.mT, own)) / 2 + RHO / 2 * (g1.mT @ g2).square().sum()

    return objective


def ours(x, x_tilde):
    """The same through the loss object of this package."""
    loss = CLIP()
    return lambda g1, g2: loss((x @ g1.mT) @ (x_tilde @ g2.mT).mT) + RHO / 2 * (g1.mT @ g2).square().sum()


def run_lbfgs(objective, start, target):
    """scipy's L-BFGS with autograd gradients, from random encoders, until the value is at the target."""
    cut, shapes = start[0].numel(), [g.shape for g in start]

    def value_and_gradient(flat):
        flat = torch.tensor(flat, requires_grad=True)
        value = objective(flat[:cut].view(shapes[0]), flat[cut:].view(shapes[1]))
        if value.item() <= target:
            raise Reached
        value.backward()
        return value.item(), flat.grad.numpy()

    flat = np.concatenate([g.numpy().ravel() for g in start])
    options = {"maxiter": 5000, "maxfun": 20_000, "gtol": 0, "ftol": 0}
    try:
        scipy.optimize.minimize(value_and_gradient, flat, jac=True, method="L-BFGS-B", options=options)
    except Reached:
        return
    raise RuntimeError("L-BFGS stopped above the target")


def run_adamw(objective, start, target, lr, limit):
    """Full-batch AdamW without weight decay; (seconds, whether it reached the target within the limit)."""
    begin, factors = time.perf_counter(), [g.clone().requires_grad_() for g in start]
    optimizer = torch.optim.AdamW(factors, lr=lr, weight_decay=0)
    while (seconds := time.perf_counter() - begin) < limit:
        optimizer.zero_grad()
        value = objective(*factors)
        if value.item() <= target:
            return seconds, True
        value.backward()
        optimizer.step()
    return seconds, False


def value_of(found, x, x_tilde):
    """The value by another route than the fit's, in blocks: cross-entropy of 1,000 rows and columns at a time."""
    z, z_tilde, total = x @ found.g1.mT, x_tilde @ found.g2.mT, 0.0
    for a, b in ((z, z_tilde), (z_tilde, z)):
        for rows in torch.arange(len(x)).split(1000):
            total += F.cross_entropy(a[rows] @ b.mT, rows, reduction="sum").item() / (2 * len(x))
    return total + RHO / 2 * (found.g1.mT @ found.g2).square().sum().item()


def nonlinear(n):
    data = spiked(n, 40, 39, RANK, seed=1)
    x, x_tilde = data.x, data.x_tilde
    note(f"n = {n:,}: the minimum, and which objective is faster")
    minimum = value_of(fit(x, x_tilde, RANK, "clip", RHO, tol=1e-7, max_steps=2000), x, x_tilde)
    target = minimum + EXCESS * abs(minimum)
    start = random_encoders(x, x_tilde, RANK, seed=2)
    leaves = [g.clone().requires_grad_() for g in start]
    objectives = {f.__name__: f(x, x_tilde) for f in (cross_entropy, ours)}
    once = alternate({k: lambda f=f: torch.autograd.grad(f(*leaves), leaves) for k, f in objectives.items()}, 3)
    name = min(once, key=once.get)
    objective = objectives[name]

    # A run of the fit bounds what AdamW may take: beyond 10 times as long (at least 5 s) the ratio is a lower bound.
    begin = time.perf_counter()
    found = fit(x, x_tilde, RANK, "clip", RHO, TOL)
    limit = max(5.0, 10 * (time.perf_counter() - begin))
    excess = value_of(found, x, x_tilde) / minimum - 1
    assert excess <= EXCESS, f"the fit is {excess:.1e} above the minimum at n = {n}"
    grid = {}
    for lr in tqdm(RATES, desc="AdamW learning rates", leave=False):
        grid[lr], reached = run_adamw(objective, start, target, lr, limit)
        note(f"  AdamW lr = {lr}: {grid[lr]:.2f} s{'' if reached else ', not there'}")
        if reached:
            limit = min(limit, 1.5 * grid[lr])  # a slower rate need not be run to its end
        else:
            grid[lr] = float("inf")
    lr = min(grid, key=grid.get)
    reached = grid[lr] < float("inf")
    seconds = alternate(
        {
            "fit": lambda: fit(x, x_tilde, RANK, "clip", RHO, TOL),
            f"L-BFGS on {name}": lambda: run_lbfgs(objective, start, target),
            "AdamW": lambda: run_adamw(objective, start, target, lr, limit if not reached else 4 * limit),
        },
        REPEATS[n],
    )
    mine, least = seconds.pop("fit"), "" if reached else ">= "
    for other, theirs in seconds.items():
        sign, label = (least, f"AdamW, lr = {lr},") if other == "AdamW" else ("", other)
        what = f"{label} {theirs:.2f} s / CLIP fit {mine:.2f} s, n = {n:,}, {REPEATS[n]} run(s)"
        add(what, f"{sign}{theirs / mine:.1f}", ">= 2", theirs >= 2 * mine)
    note(f"  the fit took {found.steps} steps and is {excess:.1e} above the minimum")


MEMORY = """
import resource, sys
import torch
from mmcl.spectral import fit
unit = 1 if sys.platform == "darwin" else 1024
generator = torch.Generator().manual_seed(0)
x, x_tilde = (torch.randn(20_000, d, generator=generator, dtype=torch.float64) for d in (40, 39))
fit(x[:100], x_tilde[:100], 10, "clip", max_steps=2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fit(x, x_tilde, 10, "clip", max_steps=3)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit / 2**30)
"""


# A child begins with the peak of the process that starts it, so a small process stands between.
BETWEEN = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', sys.argv[1]]).returncode)"


def memory():
    command = [sys.executable, "-c", BETWEEN, MEMORY]
    used = float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    add("memory of a CLIP fit above its data, n = 20,000", f"{used:.3f} GB", "< 1 GB", 0 < used < 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, nargs="*", default=list(REPEATS), choices=list(REPEATS), help="CLIP sizes")
    sizes = parser.parse_args().n
    linear()
    memory()
    for n in sizes:
        nonlinear(n)
    table = [("what", "measured", "target", "met"), *TABLE]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    sys.exit(any(row[-1] == "NO" for row in TABLE))


if __name__ == "__main__":
    main()
