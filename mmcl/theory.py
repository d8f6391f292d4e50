"""What theory predicts for the spiked model: first-order errors, the bound of Theorem 3.1, and where curves cross.

First order means to leading order in 1/sqrt(n): with a gap between the wanted and the other singular values, a
perturbation E of a matrix turns its singular or eigenvectors by E divided by the gap (Stewart, Sun, Matrix
Perturbation Theory, 1990). Squared and averaged over Gaussian data this gives the constants that the paper's bound
leaves open. The formulas hold while the error is small against sqrt(r), where every error saturates.
"""

import torch

from mmcl._checks import share
from mmcl.metrics import sin_theta
from mmcl.unimodal import leading_eigenvectors, without_diagonal


def multimodal_error(u1, u2, noise, noise_tilde, n, signal=1.0, wrong_share=0.0):
    """First-order root mean square of ||sinTheta(G1, U1)||_F for MMCL with the linear loss.

        (1/eta) sqrt( tr(P noise) tr((Z + U2^T noise_tilde U2) Z^-2) / n ),   P = I - U1 U1^T,

    Z = diag(signal) and eta = 1 - wrong_share. There is no bias: noise of one modality, structured or not, is
    uncorrelated with everything in the other.

    Args:
        u1, u2: (..., d1, r), (..., d2, r) orthonormal signal directions.
        noise, noise_tilde: (..., d1, d1), (..., d2, d2) noise covariances.
        n: pairs.
        signal: variance of the latent coordinates, one number or r of them.
        wrong_share: share of wrong pairs, in [0, 1).

    Returns:
        (...,) predicted error of G1; swap the modalities for that of G2.

    Raises:
        ValueError: if wrong_share is not in [0, 1).

    Reference: sharpens arXiv 2302.06232, Theorem 3.1; notebook 02, section 2.
    """
    share(wrong_share=wrong_share)
    if wrong_share == 1:
        raise ValueError("wrong_share = 1; without a right pair there is nothing to recover, so use less than 1")
    z = torch.as_tensor(signal, dtype=u1.dtype).expand(u1.shape[-1])
    own = noise.diagonal(dim1=-2, dim2=-1).sum(-1) - (u1 * (noise @ u1)).sum((-2, -1))
    other = ((z + (u2 * (noise_tilde @ u2)).sum(-2)) / z**2).sum(-1)
    return (own * other / n).sqrt() / (1 - wrong_share)


def unimodal_error(u, noise, n, signal=1.0, masked=True):
    """First-order root mean square of ||sinTheta(G, U)||_F for `fit_masked`, or for `fit_pca` with masked=False.

    The sum of two squares: the bias of the population eigenvectors of A = Sigma without its diagonal (or A = Sigma =
    U diag(signal) U^T + noise), which no n removes, and the sampling error

        1/n sum_{i<=r<j} 2 tr(B Sigma B Sigma) / (a_i - a_j)^2,   B = sym(v_i v_j^T) without its diagonal (or with),

    with a and v the eigenvalues and eigenvectors of A and 2 tr(B Sigma B Sigma) the variance of x^T B x, x Gaussian.

    Args:
        u: (..., d, r) orthonormal signal directions.
        noise: (..., d, d) noise covariance.
        n: samples.
        signal: variance of the latent coordinates, one number or r of them.
        masked: whether the diagonal is deleted.

    Returns:
        (...,) predicted error, at most sqrt(r).

    Reference: notebook 02, section 3.
    """
    r = u.shape[-1]
    sigma = (u * torch.as_tensor(signal, dtype=u.dtype)) @ u.mT + noise
    keep = without_diagonal if masked else torch.clone
    a, v = torch.linalg.eigh(keep(sigma))
    total = sin_theta(leading_eigenvectors(keep(sigma), r).mT, u).square()
    rest = v[..., :-r].mT
    for i in range(-r, 0):
        b = rest.unsqueeze(-1) * v[..., None, None, :, i]
        c = keep((b + b.mT) / 2) @ sigma.unsqueeze(-3)
        variance = 2 * (c * c.mT).sum((-2, -1))
        total = total + (variance / (a[..., i, None] - a[..., :-r]).square()).sum(-1) / n
    return total.sqrt().clamp(max=r**0.5)


def rate_bound(n, right_share, d1, d2, rank, constant=1.0, effective_rank=1.0):
    """The bound of Theorem 3.1, min( sqrt r, (C/eta) sqrt( r k log(n + d1 + d2) / n ) ).

    Args:
        n, right_share: pairs and share eta of right pairs; numbers or tensors that broadcast.
        d1, d2, rank: dimensions.
        constant: C, which the theorem leaves open.
        effective_rank: k, the sum of the effective ranks of the covariances; it can be taken into C.

    Returns:
        Tensor of bounds on ||sinTheta||_F.

    Reference: arXiv 2302.06232, Theorem 3.1; notebook 02, section 2.
    """
    n, eta = (torch.as_tensor(a, dtype=torch.float64) for a in (n, right_share))
    bound = constant / eta * (rank * effective_rank * torch.log(n + d1 + d2) / n).sqrt()
    return bound.clamp(max=rank**0.5)


def crossing(x, a, b):
    """Where curve ``a`` first rises above curve ``b``, by linear interpolation between the points.

    Args:
        x: (t,) increasing abscissae.
        a, b: (..., t) values of the two curves.

    Returns:
        (...,) abscissa of the crossing: x[0] if a is above b from the start, NaN if it never is.
    """
    x = torch.as_tensor(x, dtype=torch.float64)
    gap = a - b
    above = gap > 0
    j = above.to(torch.int8).argmax(-1).clamp(min=1).unsqueeze(-1)
    g0, g1 = gap.gather(-1, j - 1), gap.gather(-1, j)
    at = (x[j - 1] - g0 * (x[j] - x[j - 1]) / (g1 - g0)).squeeze(-1)
    at = at.where(~above[..., 0], x[0])
    return at.where(above.any(-1), torch.nan)


def loglog_slope(x, y):
    """Least-squares slope of log y against log x.

    Args:
        x: (t,) positive abscissae.
        y: (..., t) positive values.

    Returns:
        (...,) slopes.
    """
    x = torch.as_tensor(x, dtype=torch.float64).log()
    x = x - x.mean()
    return (y.log() * x).sum(-1) / x.square().sum()
