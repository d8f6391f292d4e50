"""What theory predicts: first-order errors, the bound of Theorem 3.1, and where curves cross.

First order means to leading order in 1/sqrt(n): with a gap between the wanted and the other singular values, a
perturbation E of a matrix turns its singular or eigenvectors by E divided by the gap (Stewart, Sun 1990). Squared and
averaged over Gaussian data this gives the constants that the paper's bound leaves open, while errors are below sqrt(r).
"""

import torch
from torch import Tensor

from mmcl._checks import as_square, at_least, positive, share, signal_and_noise, within
from mmcl.detection_theory import (  # noqa: F401  what is known about detection is found here too
    Numbers,
    bayes_top1,
    correlation,
    information,
    inner_product_top1,
    partition_threshold,
)
from mmcl.metrics import sin_theta
from mmcl.unimodal import leading_eigenvectors, without_diagonal


def multimodal_error(
    u1: Tensor,
    u2: Tensor,
    noise: Tensor,
    noise_tilde: Tensor,
    n: float,
    signal: Numbers = 1.0,
    wrong_share: float = 0.0,
) -> Tensor:
    """First-order root mean square of ||sinTheta(G1, U1)||_F for MMCL with the linear loss.

        (1/eta) sqrt( tr(P noise) tr((Z + U2^T noise_tilde U2) Z^-2) / n ),   P = I - U1 U1^T,

    Z = diag(signal) and eta = 1 - wrong_share. There is no bias: noise of one modality, structured or not, is
    uncorrelated with everything in the other.

    Args:
        u1, u2: (..., d1, r), (..., d2, r) orthonormal signal directions.
        noise, noise_tilde: (..., d1, d1), (..., d2, d2) noise covariances.
        n: pairs.
        signal: variance of the latent coordinates, one number or r of them.
        wrong_share: share of wrong pairs p_n, in [0, 1), else ValueError.

    Returns:
        (...,) predicted error of G1; swap the modalities for that of G2.

    Reference: sharpens PMLR 206:4348, Theorem 3.1.

    Example:
        >>> u, noise = torch.eye(40)[:, :5], torch.eye(40)
        >>> round(float(multimodal_error(u, u, noise, noise, n=2000, wrong_share=0.5)), 2)  # sqrt(4 * 35 * 10 / 2000)
        0.84
    """
    share(wrong_share=wrong_share)
    positive(n=n, **{"1 - wrong_share": 1 - wrong_share})  # without a right pair there is nothing to recover
    (u1, noise, z), (u2, noise_tilde, _) = (signal_and_noise(*a, signal) for a in ((u1, noise), (u2, noise_tilde)))
    own = noise.diagonal(dim1=-2, dim2=-1).sum(-1) - (u1 * (noise @ u1)).sum((-2, -1))
    other = ((z + (u2 * (noise_tilde @ u2)).sum(-2)) / z**2).sum(-1)
    return (own * other / n).sqrt() / (1 - wrong_share)


def unimodal_error(u: Tensor, noise: Tensor, n: float, signal: Numbers = 1.0, masked: bool = True) -> Tensor:
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

    Reference: sharpens PMLR 206:4348, Lemma 7.1.

    Example:
        >>> round(float(unimodal_error(torch.eye(40)[:, :5], torch.eye(40), n=2000, masked=False)), 2)
        0.42
    """
    positive(n=n)
    u, sigma = _covariance(u, noise, signal)
    bias = sin_theta(leading_eigenvectors(without_diagonal(sigma) if masked else sigma, u.shape[-1]).mT, u)
    return (bias.square() + _variance(sigma, u.shape[-1], masked) / n).sqrt().clamp(max=u.shape[-1] ** 0.5)


def masked_bias(u: Tensor, noise: Tensor, signal: Numbers = 1.0) -> Tensor:
    """||sinTheta||_F between U and what masked contrastive learning finds from infinitely many rows of one modality.

    That is the leading eigenspace of the covariance without its diagonal. For U drawn uniformly and any diagonal noise
    it is sqrt(2 r (r + 2))/d to first order: smaller than the r^(3/2) log(d)/d of the lemma, which is a bound. A signal
    on one coordinate is lost at any d, and noise that is correlated between coordinates is not removed either.
    Arguments as for `unimodal_error`; returns (...,).

    Reference: PMLR 206:4348, Lemma 7.1 (its first term; it needs nearly diagonal noise and incoherent U).

    Example:
        >>> even = torch.full((16, 1), 0.25)  # the same signal in all coordinates: nothing is lost
        >>> round(float(masked_bias(even, torch.eye(16))), 3)
        0.0
    """
    u, sigma = _covariance(u, noise, signal)
    return sin_theta(leading_eigenvectors(without_diagonal(sigma), u.shape[-1]).mT, u)


def _covariance(u: Tensor, noise: Tensor, signal: Numbers) -> tuple[Tensor, Tensor]:
    u, noise, variances = signal_and_noise(u, noise, signal)
    return u, (u * variances) @ u.mT + noise


def _variance(sigma: Tensor, r: int, masked: bool) -> Tensor:
    """n times the first-order variance of the sample's eigenvectors about the population's."""
    keep = without_diagonal if masked else torch.clone
    a, v = torch.linalg.eigh(keep(sigma))
    rest, total = v[..., :-r].mT, torch.zeros_like(a[..., 0])
    for i in range(-r, 0):
        b = rest.unsqueeze(-1) * v[..., None, None, :, i]
        c = keep((b + b.mT) / 2) @ sigma.unsqueeze(-3)
        variance = 2 * (c * c.mT).sum((-2, -1))
        total = total + (variance / (a[..., i, None] - a[..., :-r]).square()).sum(-1)
    return total


def overtaking_n(
    u1: Tensor, u2: Tensor, noise: Tensor, noise_tilde: Tensor, signal: Numbers = 1.0, wrong_share: float = 0.0
) -> Tensor:
    """The n beyond which MMCL, wrong pairs included, has a smaller error than masked contrastive learning on x alone.

    n* = (A - V)/b^2, where A/n = `multimodal_error`^2 ~ 1/eta^2, V/n is the variance part of `unimodal_error`^2 and b
    is `masked_bias`: what wrong pairs cost more data repay, what masking costs they do not.
    Arguments as for `multimodal_error`.

    Returns:
        (...,) n*; 0 where MMCL is ahead at any n, infinite where the masked method has no bias and less variance.

    Reference: PMLR 206:4348, Section 3.2 with Theorem 3.1 and Lemma 7.1.

    Example:
        >>> from mmcl.data import spiked
        >>> p = spiked(n=2, d1=20, d2=20, rank=4, noise_std=0.5, seed=5)
        >>> bool(400 < overtaking_n(p.u1, p.u2, p.noise, p.noise_tilde, wrong_share=0.5) < 1600)
        True
    """
    u1, sigma = _covariance(u1, noise, signal)
    variance = _variance(sigma, u1.shape[-1], masked=True)
    ahead = multimodal_error(u1, u2, noise, noise_tilde, 1, signal, wrong_share).square() - variance
    return torch.where(ahead > 0, ahead / masked_bias(u1, noise, signal).square(), 0)


def effective_rank(a: Tensor) -> Tensor:
    """Effective rank r(A) = tr A/||A|| of a covariance (..., d, d), of Theorem 3.1: from 1 to d, and 0 for A = 0.

    Example:
        >>> float(effective_rank(torch.eye(7)))
        7.0
    """
    a = as_square("a", a)
    trace, norm = a.diagonal(dim1=-2, dim2=-1).sum(-1), torch.linalg.matrix_norm(a, 2)
    return torch.where(norm > 0, trace / norm, 0)


def epsilon_n(n: Numbers, rank: int, noise: Tensor, noise_tilde: Tensor) -> Tensor:
    """The rate eps_n = sqrt( (r + r(noise) + r(noise_tilde)) log(n + d1 + d2) / n ) of Theorem 8.1.

    Args:
        n: pairs, one number or a tensor of them.
        rank: latent dimension r.
        noise, noise_tilde: (..., d1, d1), (..., d2, d2) noise covariances; their effective ranks broadcast with n.

    Reference: PMLR 206:4348, Theorem 8.1 and Corollary 8.1.

    Example:
        >>> round(float(epsilon_n(10_000, 5, torch.eye(40), torch.eye(39))), 3)
        0.278
    """
    n, noise, noise_tilde = within(1, torch.inf, "n", n), *(as_square("noise", a) for a in (noise, noise_tilde))
    at_least(1, rank=rank)
    ranks = rank + effective_rank(noise) + effective_rank(noise_tilde)
    return (ranks * torch.log(n + noise.shape[-1] + noise_tilde.shape[-1]) / n).sqrt()


def rate_bound(
    n: Numbers,
    right_share: Numbers,
    noise: Tensor,
    noise_tilde: Tensor,
    rank: int,
    constant: float = 1.0,
    factor: bool = False,
) -> Tensor:
    """The bound on both ||sinTheta||_F, min( sqrt r, (C/eta) sqrt r eps_n ): trivial once eta <= C eps_n.

    Args:
        n, right_share: pairs and share eta = 1 - p_n of right pairs; numbers or tensors that broadcast.
        noise, noise_tilde, rank: as for `epsilon_n`.
        constant: C, which the theorem leaves open; it depends on the strength and the conditioning of the signal.
        factor: whether to multiply by 1 + eps_n/eta as Theorem 8.1 does; Theorem 3.1 and Corollary 8.1 take it into C.

    Reference: PMLR 206:4348, Theorem 3.1, Theorem 8.1, Corollary 8.1.

    Example:
        >>> noises = torch.eye(40), torch.eye(39)
        >>> rate_bound(10_000, torch.tensor([1.0, 0.5]), *noises, rank=5, constant=0.26).round(decimals=2)
        tensor([0.1600, 0.3200], dtype=torch.float64)
    """
    positive(constant=constant)
    eta, epsilon = within(0, 1, "right_share", right_share), epsilon_n(n, rank, noise, noise_tilde)
    return rank**0.5 * (constant * epsilon / eta * (1 + epsilon / eta if factor else 1)).clamp(max=1)


def algorithm_4_signal(nu: Numbers, right_share: Numbers) -> Tensor:
    """What Algorithm 4 leaves of the signal in S: (nu eta - 1) U1 Z U2^T, negative for nu < 1/eta; nu = 1 is CLIP.

    Reference: PMLR 206:4348, Theorem 7.1 and eq. (7.5), where it is nu - 1 - nu p_n.

    Example:
        >>> algorithm_4_signal(torch.tensor([1.0, 2.0, 3.0]), 0.5)
        tensor([-0.5000,  0.0000,  0.5000], dtype=torch.float64)
    """
    return within(0, torch.inf, "nu", nu) * within(0, 1, "right_share", right_share) - 1


def algorithm_4_factor(nu: Numbers, right_share: Numbers) -> Tensor:
    """First-order error of Algorithm 4 over that with the n true pairs known, where all beta have their limits.

        sqrt(nu^2 - 2 nu eta + 1)/|nu eta - 1|

    S is nu/n times the sum over observed pairs less 1/n times that over true pairs: nu - 1 on the eta n of both, nu on
    wrong ones, -1 on hidden ones. The root is their mean square, the denominator `algorithm_4_signal`. The linear loss
    has 1/eta: smaller wherever nu > 1/(2 eta), so for all nu >= 1.1/eta of the theorem.
    Infinite at nu = 1/eta. Numbers and tensors broadcast.

    Reference: sharpens PMLR 206:4348, Theorem 7.1.

    Example:
        >>> algorithm_4_factor(torch.tensor([1.0, 4.0]), 0.5).round(decimals=2)
        tensor([2.0000, 3.6100], dtype=torch.float64)
    """
    nu, eta = within(0, torch.inf, "nu", nu), within(0, 1, "right_share", right_share)
    return (nu**2 - 2 * nu * eta + 1).sqrt() / algorithm_4_signal(nu, eta).abs()
