"""Random inputs that several test files draw."""

import torch

from mmcl.data import spiked


def normal(*shape, seed=0):
    """Standard normal numbers, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shuffled(n, seed=0):
    """A random order of 0 to n - 1."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def overlapping(n, rows, columns, partners, seed, noise_std=0.3, rank=5):
    """Known pairs, unpaired rows of which some have partners, and the lag i - j at which these stand."""
    p = spiked(n + rows + columns - partners, 20, 18, rank, noise_std=noise_std, seed=seed)
    start = n + rows - partners
    rest = p.x[n : n + rows], p.x_tilde[start : start + columns]
    return (p.x[:n], p.x_tilde[:n], *rest), rows - partners, p
