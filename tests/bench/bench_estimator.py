"""Speed, memory and retrieval of `mmcl.MMCL`: `make bench`. Times are CPU seconds of one thread, medians of several.

Three parts: one pass over a memory map against the bare matrix products; held-out retrieval and time on real numerals
against scikit-learn (and cca_zoo where it is installed); CLIP with strangers from groups against the exact fit.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.cross_decomposition import CCA, PLSSVD, PLSCanonical
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

import mmcl
from mmcl.data import spiked
from mmcl.losses import CLIP
from mmcl.metrics import relative_error
from mmcl.practice.sampled import fit_sampled
from mmcl.practice.selection import partner_score

DATA = Path(__file__).parents[1] / "data" / "numerals.npz"
RANKS = (2, 8, 16, 32)  # among which peers choose by their own cross-validation


def seconds(run):
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_pass(rows, d=128, repeats=3):
    with tempfile.TemporaryDirectory() as folder:
        for name in "xy":
            file = np.lib.format.open_memmap(f"{folder}/{name}.npy", mode="w+", dtype="f4", shape=(rows, d))
            for i in range(0, rows, 50_000):
                part = file[i : i + 50_000]
                part[:] = np.random.default_rng(i).standard_normal(part.shape, dtype="f4")
            del file
        x, y = (np.load(f"{folder}/{name}.npy", mmap_mode="c") for name in "xy")
        a, b = torch.from_numpy(x), torch.from_numpy(y)
        mmcl.MMCL(8, ridge=0.1).fit(x[:3000], y[:3000])
        products = {"centre": [(a, b)], "standardise": [(a, b)], "whiten": [(a, b), (a, a), (b, b)]}
        for scale, pairs in products.items():
            bare, ours = [], []
            for _ in range(repeats):
                bare.append(seconds(lambda p=pairs: [u.mT @ v for u, v in p])[0])
                ours.append(seconds(lambda s=scale: mmcl.MMCL(8, scale=s, ridge=0.1).fit(x, y))[0])
            bare, ours = statistics.median(bare), statistics.median(ours)
            print(
                f"one pass, {scale}, n = {rows}: {ours:.2f} s, {ours / bare:.2f} times the bare product(s)", flush=True
            )
        memory = 2 * rows * d * 4 / 2**20
        print(f"memory at most {resident() - memory:.0f} MB beside {memory:.0f} MB of mapped data, torch and all")


def chosen_by_folds(make, x, y):
    """A peer at the rank that retrieves best in three folds."""

    def score(rank):
        models = [(make(rank).fit(x[i], y[i]), j) for i, j in KFold(3).split(x)]
        return sum(scored(m.transform(x[j], y[j])) for m, j in models)

    return make(max((r for r in RANKS if r <= min(x.shape[1], y.shape[1])), key=score)).fit(x, y)


def scored(scores):
    return partner_score(*(torch.from_numpy(np.asarray(z, dtype=float)) for z in scores))


def numerals(seed=0):
    views, order = np.load(DATA), np.random.default_rng(seed).permutation(2000)
    train, test = order[:1500], order[1500:]
    peers = {"PLSSVD": PLSSVD, "PLSCanonical": PLSCanonical, "CCA": lambda r: CCA(r, max_iter=200, tol=1e-3)}
    for view, other in (("fourier", "pixels"), ("fourier", "zernike"), ("pixels", "zernike")):
        compare(view, other, views[view], views[other], train, test, peers)


def compare(view, other, x, y, train, test, peers):
    a, b = (StandardScaler().fit(c[train]).transform(c) for c in (x.astype(float), y.astype(float)))
    runs = {"MMCL()": lambda: mmcl.MMCL().fit(x[train], y[train]).transform(x[test], y[test])}
    for name, make in peers.items():
        runs[name] = lambda m=make: chosen_by_folds(m, a[train], b[train]).transform(a[test], b[test])
    runs |= zoo(a, b, train, test)
    for name, run in runs.items():
        try:
            took, scores = seconds(run)
        except np.linalg.LinAlgError as error:
            print(f"{view} and {other}: {name:14s} fails: {error}", flush=True)
            continue
        print(f"{view} and {other}: {name:14s} MAP {scored(scores):.3f} in {took:.2f} s", flush=True)


def zoo(a, b, train, test):
    try:
        from cca_zoo.linear import CCA as ZooCCA
        from cca_zoo.linear import PLS, RidgeCCA
        from cca_zoo.model_selection import GridSearchCV
    except ImportError:
        return {}
    grids = {"zoo CCA": (ZooCCA, {}), "zoo PLS": (PLS, {}), "zoo ridge CCA": (RidgeCCA, {})}
    grids["zoo ridge CCA"][1]["shrinkage"] = [0.001, 0.01, 0.1, 0.3]
    return {
        name: lambda m=make, g=grid: (
            GridSearchCV(m(), g | {"n_components": [8, 16, 32]}, cv=3)
            .fit([a[train], b[train]])
            .best_estimator_.transform([a[test], b[test]])
        )
        for name, (make, grid) in grids.items()
    }


def strangers(n, more, tau=1.0):
    p = spiked(n, 64, 64, rank=8, noise_std=0.5)
    x, y = ((c - c.mean(0)).float() for c in (p.x, p.x_tilde))
    took, exact = seconds(lambda: mmcl.fit(x, y, 8, CLIP(tau), tol=1e-3))
    print(f"CLIP, n = {n}: exact {took:.1f} s", flush=True)
    for m in (99, 299, 999):
        took, found = seconds(lambda m=m: fit_sampled(x, y, 8, CLIP(tau), m))
        error = relative_error(found.g1.mT @ found.g2, exact.g1.mT @ exact.g2)
        print(f"  {m} strangers: {took:.2f} s, M differs by {error:.3f}", flush=True)
    if more:
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(more, 8, generator=generator)
        x, y = (
            z @ torch.randn(8, 64, generator=generator) / 8 + 0.5 * torch.randn(more, 64, generator=generator)
            for _ in range(2)
        )
        took, found = seconds(lambda: fit_sampled(x, y, 8, CLIP(tau), 299))
        print(f"  n = {more}, 299 strangers: {took:.0f} s, {found.steps} steps, converged {bool(found.converged)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the memory map")
    parser.add_argument("--exact", type=int, default=10_000, help="pairs of the exact CLIP fit")
    parser.add_argument(
        "--many", type=int, default=100_000, help="pairs of the CLIP fit with strangers; 0 leaves it out"
    )
    parser.add_argument("--parts", nargs="*", default=["pass", "numerals", "strangers"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}")
    if "pass" in arguments.parts:
        one_pass(arguments.rows)
    if "numerals" in arguments.parts:
        numerals()
    if "strangers" in arguments.parts:
        strangers(arguments.exact, arguments.many)
