"""What theory predicts: first-order errors, the bound of Theorem 3.1, where curves cross, and limits of detection.

First order means to leading order in 1/sqrt(n): with a gap between the wanted and the other singular values, a
perturbation E of a matrix turns its singular or eigenvectors by E divided by the gap (Stewart, Sun, Matrix
Perturbation Theory, 1990). Squared and averaged over Gaussian data this gives the constants that the paper's bound
leaves open. The formulas hold while the error is small against sqrt(r), where every error saturates.
"""

import math

import numpy as np
import scipy.special
import scipy.stats
import torch

from mmcl._checks import at_least, positive, share
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


def correlation(noise_std):
    """Correlation c = 1/(1 + noise_std^2) of the standardised coordinates of U1^T x and U2^T x_tilde, signal 1."""
    if not (math.isfinite(noise_std) and noise_std >= 0):
        raise ValueError(f"noise_std = {noise_std}; a standard deviation is a finite number, not negative")
    return 1 / (1 + noise_std**2)


def information(rank, noise_std):
    """Mutual information of U1^T x and U2^T x_tilde, -(r/2) log(1 - c^2) nats, infinite without noise.

    A partner among N candidates is found while log N is below it, and lost beyond. Arguments as for `bayes_top1`.
    """
    at_least(1, rank=rank)
    c = correlation(noise_std)
    return -rank / 2 * math.log(1 - c**2) if c < 1 else math.inf


def bayes_top1(candidates, rank, noise_std):
    """Best possible share of rows that find their partner among N candidates, the subspaces being known.

    The Bayes rule maximises log p(v|u)/p(v) over the candidates v: with u = U1^T x, v = U2^T x_tilde standardised,
    it takes the smallest ||v - u/c||. Given ||u||^2 ~ chi2_r its rate is

        E (1 - F(T))^(N-1),   T ~ (1 - c^2) ncx2_r(||u||^2 (1 - c^2)/c^2),   F the cdf of ncx2_r(||u||^2/c^2),

    integrated by Gauss-Legendre rules over ||u|| and sqrt(T), to 1e-4 at rank 1 and much better beyond.

    Args:
        candidates: N >= 1, the partner included; one number or an array of them.
        rank: latent dimension r.
        noise_std: noise of both modalities, the latent coordinates having variance 1; 0 gives 1.

    Returns:
        float64 tensor of the shape of ``candidates``.

    Raises:
        ValueError: if an argument is out of range.

    Reference: notebook 03 (sharpens the detection of pairs of arXiv 2302.06232, Section 4).
    """
    n, c = _candidates(candidates, rank), correlation(noise_std)
    if c == 1 or c < 1 / 50:  # no noise; or so much that the rules agree to 1e-4 of the rate, and ncx2 takes long
        return torch.ones_like(n) if c == 1 else inner_product_top1(candidates, rank, noise_std)
    u, outer = _radii(rank, np.zeros(1))
    t, inner = _radii(rank, u[0] ** 2 * (1 - c**2) / c**2)
    false = scipy.stats.ncx2.cdf((1 - c**2) * t**2, rank, (u[0] ** 2 / c**2)[:, None])
    return _expected_power(np.log1p(-false.clip(max=1 - 1e-16)), outer[0][:, None] * inner, n)


def inner_product_top1(candidates, rank, noise_std):
    """Share of rows whose partner has the largest inner product <U1^T x, U2^T x_tilde> among N candidates.

        E Phi( (m/(1 + s^2) + sqrt(s^2/(1 + s^2) + s^2) g) / sqrt(1 + s^2) )^(N-1),   m^2 ~ (1 + s^2) chi2_r,

    g standard normal, s = noise_std. It stays below 1 without noise, since a long row of x_tilde wins over the
    partner of a short row; the Bayes rule does not fall for that.

    Arguments, result, errors and reference as for `bayes_top1`.
    """
    n, v = _candidates(candidates, rank), 1 / correlation(noise_std)
    radius, outer = _radii(rank, np.zeros(1))
    g, weight = (a * 8 for a in np.polynomial.legendre.leggauss(200))
    score = (radius[0][:, None] / math.sqrt(v) + math.sqrt((1 - 1 / v) + v - 1) * g) / math.sqrt(v)
    return _expected_power(scipy.special.log_ndtr(score), outer[0][:, None] * (weight * scipy.stats.norm.pdf(g)), n)


def _candidates(candidates, rank):
    at_least(1, rank=rank)
    n = torch.as_tensor(candidates, dtype=torch.float64)
    if not bool((n >= 1).all()):
        raise ValueError(f"candidates = {candidates}; the partner is one of them, so give numbers of at least 1")
    return n


def _radii(rank, noncentrality, nodes=200):
    """Nodes and weights (m, nodes) of rules for sqrt(ncx2_rank(noncentrality)), one for each of m noncentralities."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    low = np.maximum(np.sqrt(rank + noncentrality) - 8, 0)[:, None]
    half = (np.sqrt(rank + noncentrality)[:, None] + 8 - low) / 2
    radius = low + half * (x + 1)
    weight = half * w * 2 * radius * scipy.stats.ncx2.pdf(radius**2, rank, noncentrality[:, None])
    return radius, weight / weight.sum(-1, keepdims=True)


def _expected_power(logarithm, weight, n):
    """Weighted mean of exp(logarithm)^(n - 1) for every n; a probability of 0 is taken as the smallest number."""
    powers = (n.unsqueeze(-1) - 1) * torch.as_tensor(logarithm).clamp(min=-700).flatten()
    return powers.exp() @ torch.as_tensor(weight).flatten()


def partition_threshold(per_class, n_images):
    """Share p of flipped edges up to which a spectral partition can see the classes of a planted bipartite graph.

    Each class is a block of per_class x per_class edges in an n_images x n_images matrix, every entry flipped with
    probability p. The classes have singular values per_class (1 - 2p), the noise none above
    2 sqrt(n_images p (1 - p)); singular vectors keep a part of the classes while

        per_class (1 - 2p) > sqrt(n_images p (1 - p)),   that is  p < (1 - sqrt(n/(n + 4 per_class^2)))/2

    (Benaych-Georges, Nadakuditi, J. Multivariate Analysis 2012). In a rectangular graph geometric means of the two
    sides take the place of both numbers.

    Reference: arXiv 2302.06232, Section 5.2 (the experiment); notebook 03.
    """
    positive(per_class=per_class, n_images=n_images)
    return (1 - math.sqrt(n_images / (n_images + 4 * per_class**2))) / 2
