"""Exact limits of the linear loss when d1/n, d2/n and the share of right pairs stay fixed while n grows.

Model (3.2) with isotropic noise, x = U1 z + s1 xi, x_tilde = U2 z_tilde + s2 xi~, and eta of the pairs right: the
latents then have cross-covariance eta Lambda, whether wrong pairs are fresh or permuted, and no more than that enters.
With a = d1/n, b = d2/n, alpha = lambda/s1^2, beta = lambda/s2^2 the singular values of S are, in a parameter psi,

    sigma^2 = s1^2 s2^2 (1 + psi)(a + psi)(b + psi)/psi,

from infinity at psi = 0 down to the edge of the bulk. All limits below are roots and values of functions of psi: they
are derived and checked by simulation, not proved. Mergny and Zdeborova (arXiv 2510.17561) treat a model of this kind.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmcl._checks import within
from mmcl.beyond._shapes import fitting
from mmcl.detection_theory import Numbers

LARGEST = 1e20  # numbers up to here, and down to its inverse, have limits that float64 can hold
SMALLEST = 1e-8  # eta = 0 stands for the limit eta -> 0, which is the mean over the two orders where outliers tie


@dataclass(frozen=True)
class Outliers:
    """What a latent leaves outside the bulk of the singular values of S: up to two outliers, the larger first.

    Attributes:
        value: (..., 2) singular values of the outliers; NaN where there is none.
        u, v: (..., 2) squared overlaps <u, U1>^2, <v, U2>^2 of their singular vectors; 0 where there is none.
        edge: (...) the largest singular value of noise alone.
    """

    value: Tensor
    u: Tensor
    v: Tensor
    edge: Tensor


def outliers(
    aspect: Numbers,
    aspect_tilde: Numbers,
    signal: Numbers,
    noise_std: Numbers,
    noise_std_tilde: Numbers,
    right_share: Numbers,
) -> Outliers:
    """Limits of the singular values of S outside its bulk, and of their vectors' overlaps with the signal.

    The outliers are the roots below psi_e of F(psi) = (a - alpha psi)(b - beta psi) - eta^2 alpha beta psi (1 + psi);

        <u, U1>^2 = (b - beta psi)/(b + psi) E/((1 + psi) psi |F'|),   E = ab - (1 + a + b) psi^2 - 2 psi^3,

    <v, U2>^2 with a and alpha in its first factor, and E = 0 at the edge psi_e.

    Args:
        aspect, aspect_tilde: a = d1/n, b = d2/n, positive.
        signal: lambda, variance of the latent coordinate. Latents do not disturb each other: one at a time.
        noise_std, noise_std_tilde: s1, s2, positive. A signal of another variance in x_tilde is a matter of its units:
            divide it and s2 by the same number.
        right_share: eta in [0, 1]; 0 is the limit of small eta.

    Numbers and tensors broadcast, float64.

    Example:
        >>> found = outliers(1, 1, 1.5, 1, 1, right_share=1)
        >>> [round(float(a), 3) for a in (found.edge, found.value[0], found.u[0])], found.value[1].isnan().item()
        ([2.598, 2.976, 0.442], True)
    """
    given = aspect, aspect_tilde, signal, noise_std, noise_std_tilde
    a, b, alpha, beta, scale, eta = _scaled(*given, right_share=right_share)
    end = _edge(a, b)
    psi, slope = _roots(a, b, alpha, beta, eta)
    a, b, alpha, beta, scale, end = (t.unsqueeze(-1) for t in (a, b, alpha, beta, scale, end))
    seen = psi < end
    psi = psi.minimum(end)
    weight = (a * b - (1 + a + b) * psi**2 - 2 * psi**3) / ((1 + psi) * psi * slope)
    u, v = weight * (b - beta * psi) / (b + psi), weight * (a - alpha * psi) / (a + psi)
    value = _value(psi, a, b, scale).where(seen, torch.nan)
    edge = _value(end, a, b, scale).squeeze(-1).expand(value.shape[:-1])
    return Outliers(value, u.where(seen, 0), v.where(seen, 0), edge)


def overlaps(
    aspect: Numbers,
    aspect_tilde: Numbers,
    signal: Numbers,
    noise_std: Numbers,
    noise_std_tilde: Numbers,
    right_share: Numbers,
) -> tuple[Tensor, Tensor]:
    """Limits of <u, U1>^2 and <v, U2>^2 for the leading singular vectors of S: 1 is recovery, 0 is nothing found.

    Arguments as for `outliers`, of which these are the first; 0 up to `threshold_share`. For small a and b,
    1 - <u, U1>^2 is (a/eta^2)(1 + beta)/(alpha beta), the first order of `mmcl.theory.multimodal_error`.

    Example:
        >>> [round(float(o), 3) for o in overlaps(0.5, 0.1, 2, 1, 1, right_share=0.3)]
        [0.228, 0.818]
    """
    found = outliers(aspect, aspect_tilde, signal, noise_std, noise_std_tilde, right_share)
    return found.u[..., 0], found.v[..., 0]


def sin_theta_limit(
    aspect: Numbers,
    aspect_tilde: Numbers,
    signals: Numbers,
    noise_std: Numbers,
    noise_std_tilde: Numbers,
    right_share: Numbers,
) -> tuple[Tensor, Tensor]:
    """Limits of ||sinTheta(G1, U1)||_F and ||sinTheta(G2, U2)||_F for r latents: sqrt(r - sum of overlaps).

    The sum is over the r largest outliers of all latents together; the second one of a strong latent may displace the
    first of a weak one.

    Args:
        signals: r variances of the latent coordinates.
        The others as for `outliers`; they broadcast, and ``signals`` is a dimension of its own.

    Example:
        >>> [round(float(e), 3) for e in sin_theta_limit(0.1, 0.1, [2.0, 1.0, 1.0], 1, 1, right_share=0.5)]
        [1.007, 1.007]
    """
    variances = torch.atleast_1d(within(1 / LARGEST, LARGEST, "signals", signals))
    names = "aspect", "aspect_tilde", "noise_std", "noise_std_tilde", "right_share"
    given = zip(names, (aspect, aspect_tilde, noise_std, noise_std_tilde, right_share), strict=True)
    a, b, s1, s2, eta = (within(-torch.inf, torch.inf, name, t).unsqueeze(-1) for name, t in given)
    found, rank = outliers(a, b, variances, s1, s2, eta), variances.shape[-1]
    order = found.value.nan_to_num(nan=0).flatten(-2).argsort(-1, descending=True)[..., :rank]
    first, second = (o.flatten(-2).gather(-1, order).sum(-1) for o in (found.u, found.v))
    return (rank - first).clamp(min=0).sqrt(), (rank - second).clamp(min=0).sqrt()


def threshold_share(
    aspect: Numbers,
    aspect_tilde: Numbers,
    signal: Numbers,
    noise_std: Numbers,
    noise_std_tilde: Numbers,
) -> Tensor:
    """The share eta_c of right pairs above which S has an outlier, so that the linear loss sees the signal at all.

        eta_c = sqrt( psi_e/(1 + psi_e) f g ),   f = a/(alpha psi_e) - 1,   g = b/(beta psi_e) - 1.

    It is 0 where f <= 0 or g <= 0: a modality that is strong by itself makes an outlier with all pairs wrong. Where
    eta_c > 1 no share suffices, and the result is infinite. At the signal s1^2 sqrt(a), which is the least that PCA
    of x sees, it is eta*: above it multimodal learning sees weaker signals than PCA, below it PCA does.

    Arguments as for `outliers`.

    Example:
        >>> [round(float(threshold_share(0.5, 0.5, signal, 1, 1)), 3) for signal in (0.4, 0.5**0.5, 1.0, 2.0)]
        [inf, 0.626, 0.3, 0.0]
    """
    a, b, alpha, beta, _ = _scaled(aspect, aspect_tilde, signal, noise_std, noise_std_tilde)
    return _share_at(_edge(a, b), a, b, alpha, beta)


def _share_at(psi: Tensor, a: Tensor, b: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """The share of right pairs at which the largest outlier of a latent is the singular value at psi (F(psi) = 0)."""
    f, g = a / (alpha * psi) - 1, b / (beta * psi) - 1
    eta = (psi / (1 + psi) * f * g).clamp(min=0).sqrt().where((f > 0) & (g > 0), 0)
    return eta.where(eta <= 1, torch.inf)


def _scaled(
    aspect: Numbers,
    aspect_tilde: Numbers,
    signal: Numbers,
    noise_std: Numbers,
    noise_std_tilde: Numbers,
    **shares: Numbers,
) -> tuple[Tensor, ...]:
    """a, b, alpha, beta, s1 s2 and shares, from `SMALLEST` on, as float64 tensors whose shapes broadcast."""
    positive = dict(aspect=aspect, aspect_tilde=aspect_tilde, signal=signal)
    positive |= dict(noise_std=noise_std, noise_std_tilde=noise_std_tilde)
    found = {name: within(1 / LARGEST, LARGEST, name, value) for name, value in positive.items()}
    found |= {name: within(0, 1, name, value).clamp(min=SMALLEST) for name, value in shares.items()}
    fitting(**found)
    a, b, variance, s1, s2, *etas = found.values()
    return a, b, variance / s1**2, variance / s2**2, s1 * s2, *etas


def _edge(a: Tensor, b: Tensor) -> Tensor:
    """psi_e, the positive root of 2 psi^3 + (1 + a + b) psi^2 = ab: a cubic in 1/psi with three real roots."""
    whole, product = 1 + a + b, a * b
    angle = (27 * product / whole**3).clamp(max=1).sqrt().arccos() / 3
    return (3 * product / whole).sqrt() / (2 * angle.cos())


def _roots(a: Tensor, b: Tensor, alpha: Tensor, beta: Tensor, eta: Tensor) -> tuple[Tensor, Tensor]:
    """The roots psi_1 < psi_2 of the quadratic F, (..., 2), and -F' there."""
    shared = eta**2 * alpha * beta
    p, q = alpha * b + beta * a + shared, alpha * beta - shared
    root = ((alpha * b - beta * a) ** 2 + shared * (2 * (alpha * b + beta * a + 2 * a * b) + shared)).sqrt()
    return torch.stack([2 * a * b / (p + root), (p + root) / (2 * q)], -1), torch.stack([root, -root], -1)


def _value(psi: Tensor, a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """The singular value at psi."""
    return scale * ((1 + psi) * (a + psi) * (b + psi) / psi).sqrt()
