"""Speed and memory of the fits: `make bench`. Every number is a ratio of medians of alternating runs in one process.

Three parts: the linear fit against the bare matrix product and PLSSVD; the CLIP fit against L-BFGS and AdamW on the
factors, each timed until it has the same value for the first time, 1e-6 above the minimum, of which the least ratio
over a grid of temperatures counts; the memory of a CLIP fit above its data.
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from sklearn.cross_decomposition import PLSSVD
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from mmcl.data import spiked
from mmcl.losses import CLIP
from mmcl.spectral import fit

RANK, RHO, EXCESS = 10, 1.0, 1e-6
TAUS = (0.01, 0.1, 1.0, 4.0)
REPEATS = {300: 7, 2000: 3, 10_000: 1}  # one L-BFGS run at n = 10,000 takes minutes
RATES = (0.1, 0.03, 0.01, 0.003)  # of AdamW
LENGTHS = (0.03, 0.1, 0.2, 0.5, 1.0, 2.0)  # of the linear loss's M, tried as a start
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


def linear(dtype, threads, n=100_000, d=256, rank=16, repeats=7):
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    x, x_tilde = (torch.randn(n, d, generator=generator, dtype=dtype) for _ in range(2))
    a, b = x.numpy(), x_tilde.numpy()
    with threadpool_limits(threads):  # numpy's
        seconds = alternate(
            {
                "product": lambda: x.mT @ x_tilde,
                "fit": lambda: fit(x, x_tilde, rank),
                "PLSSVD": lambda: PLSSVD(n_components=rank, scale=False).fit(a, b),
            },
            repeats,
        )
    torch.set_num_threads(1)
    what = f"linear fit, {str(dtype)[6:]}, {threads} thread(s), n = {n:,}, d = {d}, rank {rank}: {seconds['fit']:.3f} s"
    for other, limit in (("product", 1.1), ("PLSSVD", 1.0)):
        ratio = seconds["fit"] / seconds[other]
        add(f"{what} / {other} {seconds[other]:.3f} s", f"{ratio:.2f}", f"<= {limit}", ratio <= limit)


class Reached(Exception):
    """The target value was met: stop."""


def cross_entropy(x, x_tilde, tau):
    """CLIP with its penalty, on the factors, as it is usually written."""
    own = torch.arange(len(x))

    def objective(g1, g2):
        s = (x @ g1.mT) @ (x_tilde @ g2.mT).mT / tau
        both = F.cross_entropy(s, own) + F.cross_entropy(s.mT, own)
        return tau * both / 2 + RHO / 2 * (g1.mT @ g2).square().sum()

    return objective


def scaled_linear(x, x_tilde, tau):
    """Where both peers start: the linear loss's encoders, at the best of a few lengths on 300 pairs."""
    linear, objective = fit(x, x_tilde, RANK, "linear", RHO), cross_entropy(x[:300], x_tilde[:300], tau)
    best = min(LENGTHS, key=lambda c: float(objective(c**0.5 * linear.g1, c**0.5 * linear.g2)))
    return [(best**0.5 * g).contiguous().requires_grad_() for g in (linear.g1, linear.g2)]


def run_lbfgs(x, x_tilde, tau, target):
    """torch's L-BFGS with autograd and strong Wolfe steps, the start included, until the value is at the target."""
    objective, factors = cross_entropy(x, x_tilde, tau), scaled_linear(x, x_tilde, tau)
    optimizer = torch.optim.LBFGS(
        factors, max_iter=5000, max_eval=20_000, tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = objective(*factors)
        if value.item() <= target:
            raise Reached
        value.backward()
        return value

    try:
        optimizer.step(closure)
    except Reached:
        return
    raise RuntimeError("L-BFGS stopped above the target")


def run_adamw(x, x_tilde, tau, target, lr, limit):
    """Full-batch AdamW without weight decay, the start included; (seconds, whether it was there within the limit)."""
    begin, objective, factors = time.perf_counter(), cross_entropy(x, x_tilde, tau), scaled_linear(x, x_tilde, tau)
    optimizer = torch.optim.AdamW(factors, lr=lr, weight_decay=0)
    while (seconds := time.perf_counter() - begin) < limit:
        optimizer.zero_grad()
        value = objective(*factors)
        if value.item() <= target:
            return seconds, True
        value.backward()
        optimizer.step()
    return seconds, False


def value_of(found, x, x_tilde, tau):
    """The value by another route than the fit's, in blocks: cross-entropy of 1,000 rows and columns at a time."""
    z, z_tilde, total = x @ found.g1.mT / tau, x_tilde @ found.g2.mT, 0.0
    for a, b in ((z, z_tilde), (z_tilde, z)):
        for rows in torch.arange(len(x)).split(1000):
            total += F.cross_entropy(a[rows] @ b.mT, rows, reduction="sum").item() / (2 * len(x))
    return tau * total + RHO / 2 * (found.g1.mT @ found.g2).square().sum().item()


def nonlinear(n, tau):
    """The times of L-BFGS and of AdamW at its best rate (a lower bound where cut off) by that of the fit."""
    data = spiked(n, 40, 39, RANK, seed=1)
    x, x_tilde, loss = data.x, data.x_tilde, CLIP(tau)
    minimum = value_of(fit(x, x_tilde, RANK, loss, RHO, tol=1e-7, max_steps=2000), x, x_tilde, tau)
    target = minimum + EXCESS * abs(minimum)
    steps = int((fit(x, x_tilde, RANK, loss, RHO, tol=1e-4).history <= target).nonzero()[0])
    begin = time.perf_counter()
    found = fit(x, x_tilde, RANK, loss, RHO, max_steps=steps)
    limit = max(2.0, 12 * (time.perf_counter() - begin))
    excess = value_of(found, x, x_tilde, tau) / minimum - 1
    assert excess <= EXCESS, f"the fit is {excess:.1e} above the minimum at n = {n}, tau = {tau}"
    seconds = alternate(
        {
            "fit": lambda: fit(x, x_tilde, RANK, loss, RHO, max_steps=steps),
            "L-BFGS": lambda: run_lbfgs(x, x_tilde, tau, target),
        },
        REPEATS[n],
    )
    adam = {}
    for lr in tqdm(RATES, desc="AdamW learning rates", leave=False):
        took, reached = run_adamw(x, x_tilde, tau, target, lr, limit)
        adam[lr] = (took, reached)
        limit = took if reached else limit  # a slower rate need not be run to its end
    there = [took for took, reached in adam.values() if reached]
    ratios = seconds["L-BFGS"] / seconds["fit"], min(there, default=limit) / seconds["fit"]
    note(
        f"n = {n:,}, tau rho = {tau * RHO:g}: the fit {seconds['fit']:.3f} s, {found.steps} steps, {excess:.1e} above "
        f"the minimum; L-BFGS {ratios[0]:.2f}, AdamW {'' if there else '>= '}{ratios[1]:.1f} times as long"
    )
    return ratios


def grid(n):
    ratios = [nonlinear(n, tau) for tau in TAUS]
    for k, (other, least) in enumerate((("L-BFGS", {300: 2.5}.get(n, 6)), ("AdamW", 10))):
        worst, best = (f(r[k] for r in ratios) for f in (min, max))
        what = f"CLIP fit, n = {n:,}, tau rho from {min(TAUS)} to {max(TAUS)}: {other}'s time / the fit's, the least"
        add(what, f"{worst:.2f} (largest {best:.2f})", f">= {least}", worst >= least)


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
    parser.add_argument("--n", type=int, nargs="*", default=[300, 2000], choices=list(REPEATS), help="CLIP sizes")
    sizes = parser.parse_args().n
    for dtype in (torch.float64, torch.float32):
        for threads in (1, 2):
            linear(dtype, threads)
    memory()
    for n in sizes:
        grid(n)
    table = [("what", "measured", "target", "met"), *TABLE]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
