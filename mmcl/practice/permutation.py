"""How many canonical correlations there are: a stepwise permutation test."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmcl._blocks import row_blocks
from mmcl._checks import as_generator, at_least, paired


@dataclass(frozen=True)
class PermutationTest:
    """Canonical correlations (k,), decreasing, and the p-value (k,) of each: that there are no more than those before.

    Attributes:
        correlations: of the sample.
        p_values: never decreasing.
    """

    correlations: Tensor
    p_values: Tensor

    def rank(self, level: float = 0.05) -> int:
        """Correlations found at this level; more than there are with probability ``level`` at most."""
        return int((self.p_values <= level).sum())


def permutation_test(x: Tensor, x_tilde: Tensor, permutations: int = 199, seed: int = 0) -> PermutationTest:
    """Stepwise permutation test of the canonical correlations.

    For the k-th, the canonical variates before it are taken out of both modalities, the rows of what is left of x are
    permuted, and -log det(I - C^T C), Wilks' statistic of the correlations left, is compared with that of the pairs as
    they are. A permutation of all of x instead, read off at the k-th largest, would put the correlations found before
    into the null, and is no valid test for k > 1.

    Args:
        x, x_tilde: (n, d1), (n, d2) pairs, n > d1 + d2.
        permutations: the least p-value is 1 over this and one.
        seed: of the permutations.

    Returns:
        `PermutationTest`.

    Raises:
        ValueError: for bad data, or n <= d1 + d2, where some correlation is 1 whatever the pairs are.

    Reference: Winkler, Renaud, Smith and Nichols, NeuroImage 220, 117065 (2020).

    Example:
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> y = torch.randn(200, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        >>> y[:, 0] += x[:, 1]
        >>> permutation_test(x, y).rank()
        1
    """
    x, x_tilde = paired(x, x_tilde)
    at_least(1, permutations=permutations)
    n, small = len(x), min(x.shape[1], x_tilde.shape[1])
    if n <= x.shape[1] + x_tilde.shape[1]:
        raise ValueError(f"n = {n} pairs and {x.shape[1]} + {x_tilde.shape[1]} features; the test needs more pairs")
    if x.shape[1] < x_tilde.shape[1]:
        x, x_tilde = x_tilde, x
    a, b = (torch.linalg.qr((c - c.mean(0)).double())[0] for c in (x, x_tilde))
    u, s, vh = torch.linalg.svd(a.mT @ b)
    a, b = a @ u, b @ vh.mT
    observed = _statistics(torch.diag(s)[None])[0]
    generator, exceeding = as_generator(seed), torch.ones(small)
    for some in row_blocks(permutations, a.shape[1] * small, 2**20):
        rows = [torch.randperm(n, generator=generator) for _ in range(some.stop - some.start)]
        products = torch.stack([a[order].mT @ b for order in rows])
        exceeding += (_statistics(products) >= observed).sum(0)
    return PermutationTest(s, (exceeding / (1 + permutations)).cummax(0).values)


def _statistics(c: Tensor) -> Tensor:
    """-log det(I - C_k^T C_k) (..., k) of C (..., d1, d2), d1 >= d2, without its first k rows and columns."""
    found = []
    for k in range(c.shape[-1]):
        left = c[..., k:, k:]
        gram = torch.eye(left.shape[-1], dtype=c.dtype) - left.mT @ left
        found.append(-torch.linalg.cholesky_ex(gram)[0].diagonal(dim1=-2, dim2=-1).log().sum(-1))
    return torch.stack(found, -1)
