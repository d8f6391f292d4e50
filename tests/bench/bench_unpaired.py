"""Detect and refit in the setting of Section 5.1: quality, speed against the published training, and memory."""

import subprocess
import sys
import time

import torch
from bench_fit import BETWEEN

from mmcl.beyond.detection import score_matrix
from mmcl.beyond.refit import detect_and_refit
from mmcl.data import spiked
from mmcl.experiments.published import published
from mmcl.experiments.section_5_2 import train_published
from mmcl.metrics import top_k_accuracy
from mmcl.theory import bayes_top1

N, TESTS, DRAWS = 300, 10_000, 5
FAILED = []

MEMORY = """
import resource, sys, time
import torch
from mmcl.data import spiked
from mmcl.beyond.refit import detect_and_refit
torch.set_num_threads(1)
p = spiked(50_300, 40, 39, 10)
start = time.perf_counter()
found = detect_and_refit(p.x[:300], p.x_tilde[:300], p.x[300:], p.x_tilde[300:], 10, fdr=None, rounds=1)
seconds = time.perf_counter() - start
unit = 1 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, seconds,
      (found.pairs[:, 0] == found.pairs[:, 1]).double().mean().item())
"""


def add(what, measured, least=None, most=None):
    """One line; a number outside its limits makes the benchmark fail."""
    met = (least is None or measured >= least) and (most is None or measured <= most)
    limits = [f"{sign} {limit:g}" for sign, limit in ((">=", least), ("<=", most)) if limit is not None]
    print(f"{what}: {measured:.4g} ({', '.join(limits)}{'' if met else ': NOT MET'})", flush=True)
    FAILED.extend([] if met else [what])


def quality(rows):
    """Means over draws of top-1 by density ratio, top-1 by cosine and precision, and the median seconds."""
    results, seconds = [], []
    for seed in range(DRAWS):
        p = spiked(N + rows + TESTS, 40, 39, 10, seed=seed)
        known, rest, test = (slice(None, N), slice(N, N + rows), slice(N + rows, None))
        start = time.perf_counter()
        found = detect_and_refit(p.x[known], p.x_tilde[known], p.x[rest], p.x_tilde[rest], 10, fdr=None)
        seconds.append(time.perf_counter() - start)
        best = score_matrix(found, p.x[test], p.x_tilde[test]).argmax(1)
        results.append(
            [
                float((best == torch.arange(TESTS)).double().mean()),
                float(top_k_accuracy(p.x[test] @ found.g1.mT, p.x_tilde[test] @ found.g2.mT)),
                float((found.pairs[:, 0] == found.pairs[:, 1]).double().mean()),
            ]
        )
    return *torch.tensor(results).mean(0).tolist(), sorted(seconds)[DRAWS // 2]


def training(rows):
    """Seconds of one run of the published training on the same data."""
    p = spiked(N + rows, 40, 39, 10, seed=0)
    start = time.perf_counter()
    train_published(p.x[:N], p.x_tilde[:N], p.x[N:], p.x_tilde[N:], 10)
    return time.perf_counter() - start


def main():
    """The benchmark of chapter 13; threads are one, as there."""
    torch.set_num_threads(1)
    ratio, cosine, precision, seconds = quality(5000)
    share = ratio / float(bayes_top1(TESTS, 10, 0.3))
    add(f"N = 5,000: top-1 by density ratio {ratio:.3f} as a share of the Bayes limit", share, least=0.98)
    add("N = 5,000: top-1 by cosine, published 0.596", cosine, least=published("5.2")["with_unpaired"][-1])
    add("N = 5,000: precision of the detected pairs", precision, least=0.87)
    add("N = 2,000: precision of the detected pairs", quality(2000)[2], least=0.92)
    published_seconds = training(5000)
    what = f"N = 5,000: {seconds:.2f} s as a share of the published training's {published_seconds:.1f} s"
    add(what, seconds / published_seconds, most=0.1)
    command = [sys.executable, "-c", BETWEEN, MEMORY]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    memory, seconds, precision = map(float, output.split())
    add(
        f"N = 50,000: {seconds:.0f} s a round, precision {precision:.2f}; peak memory in GB, data and torch included",
        memory,
        most=2,
    )
    sys.exit(bool(FAILED))


if __name__ == "__main__":
    main()
