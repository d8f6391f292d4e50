"""Speed of a Monte-Carlo study: batched calls against a Python loop over draws that calls numpy's SVD."""

import statistics
import time

import numpy as np
import torch

from mmcl.data import spiked
from mmcl.metrics import sin_theta
from mmcl.spectral import fit
from mmcl.unimodal import fit_masked, fit_pca


def batched(p, rank):
    """Errors (3, draws) of PCA, masked and MMCL, each one call for all draws."""
    encoders = fit_pca(p.x, rank), fit_masked(p.x, rank), fit(p.x, p.x_tilde, rank).g1
    return torch.stack([sin_theta(g.mT, p.u1) for g in encoders])


def loop(x, x_tilde, u1, rank):
    """The same draw by draw, as in a textbook: PCA is an SVD of the centred data, the others one of a d x d matrix."""
    errors, d1 = [], x.shape[-1]
    for a, b, u in zip(x, x_tilde, u1, strict=True):
        c = np.cov(a.T, b.T)
        masked = c[:d1, :d1] - np.diag(np.diag(c)[:d1])
        masked += np.abs(masked).sum() * np.eye(d1)  # positive definite, so that singular values order as eigenvalues
        found = (
            np.linalg.svd(a - a.mean(0), full_matrices=False)[2].T,
            np.linalg.svd(masked)[0],
            np.linalg.svd(c[:d1, d1:])[0],
        )
        cosines = [np.linalg.svd(u.T @ v[:, :rank])[1] for v in found]
        errors.append([np.sqrt(np.sum(np.clip(1 - s**2, 0, None))) for s in cosines])
    return np.array(errors).T


def study_against_loop(n, d, rank, draws, repeats=5):
    """Median seconds of both on the same data, after checking that they agree; prints one line, returns the ratio."""
    p = spiked(n, d, d, rank, noise_std=1.0, noise="correlated", wrong_share=0.3, draws=draws)
    arrays = [a.numpy() for a in (p.x, p.x_tilde, p.u1)]
    runs = {"batched": lambda: batched(p, rank), "loop": lambda: torch.as_tensor(loop(*arrays, rank))}
    seconds = {name: [] for name in runs}
    for _ in range(repeats):
        results = []
        for name, run in runs.items():
            start = time.perf_counter()
            results.append(run())
            seconds[name].append(time.perf_counter() - start)
    torch.testing.assert_close(*results, rtol=0, atol=1e-5)
    ours, theirs = (statistics.median(s) for s in seconds.values())
    print(
        f"study, {draws} draws, 3 methods, n = {n}, d = {d}, r = {rank}: batched {1e3 * ours:.0f} ms, "
        f"loop with numpy's SVD {1e3 * theirs:.0f} ms: {theirs / ours:.1f} times as fast"
    )
    return theirs / ours


def main():
    """The benchmark of notebook 02; threads are one, as there."""
    torch.set_num_threads(1)
    study_against_loop(n=2000, d=40, rank=5, draws=50)
    study_against_loop(n=200, d=10, rank=2, draws=1000)


if __name__ == "__main__":
    main()
