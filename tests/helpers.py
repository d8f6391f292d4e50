"""Random inputs that several test files draw."""

import torch

from mmcl.data import spiked


def normal(*shape, seed=0):
    """Standard normal numbers, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pairs(n, d1, d2, seed, batch=(), shared=3):
    """Two views of ``shared`` common coordinates of unequal strength, and noise."""
    z = normal(*batch, n, shared, seed=seed) * torch.linspace(1.5, 0.7, shared)
    x = z @ normal(shared, d1, seed=seed + 1) / d1**0.5 + 0.4 * normal(*batch, n, d1, seed=seed + 2)
    return x, z @ normal(shared, d2, seed=seed + 3) / d2**0.5 + 0.4 * normal(*batch, n, d2, seed=seed + 4)


def close(a, b, tol=1e-10):
    """Assert |a - b| <= tol max|b|; what is below 1e-30 counts as zero."""
    b = torch.as_tensor(b)
    torch.testing.assert_close(torch.as_tensor(a), b, rtol=0, atol=max(tol * float(b.abs().max()), 1e-30))


def relative(a, b):
    """||a - b|| / ||b||."""
    b = torch.as_tensor(b)
    return float((torch.as_tensor(a) - b).norm() / b.norm())


def shuffled(n, seed=0):
    """A random order of 0 to n - 1."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def overlapping(n, rows, columns, partners, seed, noise_std=0.3, rank=5):
    """Known pairs, unpaired rows of which some have partners, and the lag i - j at which these stand."""
    p = spiked(n + rows + columns - partners, 20, 18, rank, noise_std=noise_std, seed=seed)
    start = n + rows - partners
    rest = p.x[n : n + rows], p.x_tilde[start : start + columns]
    return (p.x[:n], p.x_tilde[:n], *rest), rows - partners, p
