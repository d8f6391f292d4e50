"""What other methods see in the limit of `mmcl.beyond.limits`: PCA, joint PCA, CCA, prediction, and the best there is.

Masked contrastive learning has the limit of PCA in isotropic noise. Each method is a spiked matrix of its own, and its
overlap is 0 up to a threshold of its own. Arguments and symbols are those of `mmcl.beyond.limits.outliers` throughout;
only what differs is said.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mmcl._checks import shown
from mmcl.beyond._shapes import fitting
from mmcl.beyond.limits import _edge, _roots, _scaled, _share_at
from mmcl.detection_theory import Numbers


def pca_overlap(aspect: Numbers, signal: Numbers, noise_std: Numbers) -> Tensor:
    """Limit of <u, U1>^2 for PCA of x, and for masked learning if U1 is spread out: (1 - a/alpha^2)/(1 + a/alpha).

    0 up to alpha = sqrt(a).

    Example:
        >>> pca_overlap(0.5, [0.5, 1.0, 4.0], 1.0).round(decimals=3).tolist()
        [0.0, 0.333, 0.861]
    """
    a, _, alpha, _, _ = _scaled(aspect, 1, signal, noise_std, 1)
    return _pca(a, alpha)


def _pca(a: Tensor, alpha: Tensor) -> Tensor:
    return ((1 - a / alpha**2) / (1 + a / alpha)).clamp(min=0)


def joint_pca_overlaps(
    aspect: Numbers, aspect_tilde: Numbers, signal: Numbers, noise_std: Numbers, right_share: Numbers
) -> tuple[Tensor, Tensor]:
    """Limits of <u, U1>^2 and <v, U2>^2 for PCA of the rows (x, x_tilde), cut into u and v of length 1 afterwards.

    Both modalities have noise of noise_std. The signal is lambda (1 + eta) in one direction of a + b, seen above
    sqrt(a + b); each part takes the share of the rest that its dimension has.

    Example:
        >>> [round(float(o), 3) for o in joint_pca_overlaps(0.5, 0.2, 1, 1, right_share=0.6)]
        [0.417, 0.641]
    """
    a, b, alpha, _, _, eta = _scaled(aspect, aspect_tilde, signal, noise_std, noise_std, right_share=right_share)
    whole = _pca(a + b, alpha * (1 + eta))
    first, second = (whole / (whole + 2 * (1 - whole) * share / (a + b)) for share in (a, b))
    return first, second


def cca_overlaps(
    aspect: Numbers,
    aspect_tilde: Numbers,
    signal: Numbers,
    noise_std: Numbers,
    noise_std_tilde: Numbers,
    right_share: Numbers,
    loadings: bool = False,
) -> tuple[Tensor, Tensor]:
    """Limits of <u, U1>^2 and <v, U2>^2 for canonical correlation analysis: whitening, then the SVD; a + b < 1.

    The canonical correlation is rho^2 = eta^2 alpha beta/((1 + alpha)(1 + beta)), seen above sqrt(ab/((1-a)(1-b))).

    Args:
        loadings: False for the weights, which are the encoders; True for covariances of the rows with what the
            weights make of them, which come nearer to U1 since they undo the whitening.

    Raises:
        ValueError: if a + b >= 1: then some weights fit any pairing perfectly.

    Example:
        >>> [round(float(o), 3) for o in cca_overlaps(0.2, 0.1, 3, 1, 1, 0.9)]
        [0.368, 0.513]
    """
    given = aspect, aspect_tilde, signal, noise_std, noise_std_tilde
    a, b, alpha, beta, _, eta = _scaled(*given, right_share=right_share)
    if bool((a + b >= 1).any()):
        raise ValueError(f"aspect + aspect_tilde = {shown(a + b)}; CCA needs less than 1, that is d1 + d2 < n")
    k = _correlation(alpha, beta, eta)
    k = k / (1 - k)
    found = []
    for own, other, strength in ((a, b, alpha), (b, a, beta)):
        rest = (1 - own - other) * k - own * other
        seen = (rest * k - own * other * (1 + k)) / ((own + k) * rest)
        seen = seen.where((rest > 0) & (seen > 0), 0)
        kept, lost = (
            (seen * (1 + strength), 1 - (1 - own) * seen)
            if loadings
            else (seen / (1 + strength), (1 - seen) / (1 - own))
        )
        found.append(kept / (kept + lost))
    return found[0], found[1]


def prediction_overlap(
    aspect: Numbers,
    aspect_tilde: Numbers,
    signal: Numbers,
    noise_std: Numbers,
    noise_std_tilde: Numbers,
    right_share: Numbers,
) -> Tensor:
    """Limit of <v, U2>^2 for the best prediction of x_tilde from x of low rank (reduced-rank regression); a < 1.

    The prediction is of strength t = (1 - a) eta^2 alpha beta/(1 + alpha) + a beta in units of s2^2: what x tells, and
    what d1 = an regressors fit of any signal by chance. It is seen above sqrt(ab): (t^2 - ab)/(t (t + b)).

    Example:
        >>> prediction_overlap(0.2, 0.3, 1.0, 1.0, 1.0, [0.0, 0.5, 1.0]).round(decimals=3).tolist()
        [0.0, 0.167, 0.556]
    """
    given = aspect, aspect_tilde, signal, noise_std, noise_std_tilde
    a, b, alpha, beta, _, eta = _scaled(*given, right_share=right_share)
    t = _predicted(a, alpha, beta, eta)
    return ((t**2 - a * b) / (t * (t + b))).clamp(min=0)


def bayes_threshold_share(
    aspect: Numbers, aspect_tilde: Numbers, signal: Numbers, noise_std: Numbers, noise_std_tilde: Numbers
) -> Tensor:
    """The share of right pairs above which the best method of all sees the signal; heuristic.

    eta_B^4 = (1 - A)(1 - B)/(AB), A = alpha^2/a, B = beta^2/b; 0 where A or B >= 1 (PCA of one modality sees it);
    infinite where no share suffices. It is where approximate message passing stops being stuck at nothing: nothing
    here proves that no method does better. The latents are known to be normal, the pairing and its right share too.

    Example:
        >>> round(float(bayes_threshold_share(0.5, 0.5, 0.6, 1, 1)), 3)
        0.624
    """
    a, b, alpha, beta, _ = _scaled(aspect, aspect_tilde, signal, noise_std, noise_std_tilde)
    own, other = alpha**2 / a, beta**2 / b
    eta = ((1 - own).clamp(min=0) * (1 - other).clamp(min=0) / (own * other)) ** 0.25
    return eta.where(eta <= 1, torch.inf)


class NuisanceThresholds(NamedTuple):
    """Shares of right pairs above which the signal leads; infinite where no share suffices."""

    linear: Tensor
    alignment: Tensor
    prediction: Tensor


def nuisance_thresholds(
    aspect: Numbers,
    aspect_tilde: Numbers,
    signal: Numbers,
    noise_std: Numbers,
    noise_std_tilde: Numbers,
    nuisance: tuple[Numbers, Numbers, Numbers],
) -> NuisanceThresholds:
    """From which share of right pairs on the signal, and not a nuisance, is the leading direction of three methods.

    One nuisance direction in each modality, of variances g1 and g2, correlated by c across *all* pairs, right or
    wrong (say, both recordings of a pair come from one site): c = 0 is noise with structure within the modalities.
    Of signal and nuisance leads the one with the larger population value below, if a, b -> 0 (Kamai et al., arXiv
    2606.11190, Propositions 3.1 and 3.3); what finite a and b add is ours.

        linear       eta lambda against c sqrt(g1 g2); exactly, F(psi) = 0 at the psi of the nuisance's outlier
        alignment    eta lambda/sqrt((lambda + s1^2)(lambda + s2^2)), the correlation: CCA, at any a + b < 1
        prediction   eta lambda/sqrt(lambda + s1^2) of x_tilde from x; exactly, the t of `prediction_overlap`, a < 1

    Args:
        nuisance: (g1, g2, c), variances > 0 and a correlation in [0, 1].

    Returns:
        Three shares; not below the threshold of the method without nuisance. Alignment is NaN where a + b >= 1 and
        prediction where a >= 1: there they are not defined.

    Example:
        >>> found = nuisance_thresholds(0.1, 0.1, 1.0, 1.0, 1.0, nuisance=(4.0, 0.25, 0.4))
        >>> [round(float(eta), 2) for eta in found]
        [0.62, 0.67, 0.0]
    """
    if not isinstance(nuisance, tuple | list) or len(nuisance) != 3:
        raise ValueError(f"nuisance = {shown(nuisance)}; give (g1, g2, c), two variances and a correlation")
    own, other, correlation = nuisance
    a, b, alpha, beta, _ = _scaled(aspect, aspect_tilde, signal, noise_std, noise_std_tilde)
    _, _, gamma, _, _, c = _scaled(aspect, aspect_tilde, own, noise_std, noise_std_tilde, correlation=correlation)
    _, _, _, delta, _ = _scaled(aspect, aspect_tilde, other, noise_std, noise_std_tilde)
    fitting(signal=alpha, g1=gamma, g2=delta, c=c)
    linear = _share_at(_roots(a, b, gamma, delta, c)[0][..., 0].minimum(_edge(a, b)), a, b, alpha, beta)
    edge = (a * b / ((1 - a) * (1 - b))).sqrt().where(a + b < 1, torch.nan)
    alignment = _correlation(gamma, delta, c).maximum(edge) / _correlation(alpha, beta, torch.ones_like(a))
    strength = _predicted(a, gamma, delta, c).maximum((a * b).sqrt()) - a * beta
    prediction = strength.clamp(min=0) / (1 - a).where(a < 1, torch.nan) * (1 + alpha) / (alpha * beta)
    shares = (eta2.sqrt().where((eta2 <= 1) | eta2.isnan(), torch.inf) for eta2 in (alignment, prediction))
    return NuisanceThresholds(linear, *shares)


def _correlation(alpha: Tensor, beta: Tensor, eta: Tensor) -> Tensor:
    """Squared canonical correlation of the population."""
    return eta**2 * alpha * beta / ((1 + alpha) * (1 + beta))


def _predicted(a: Tensor, alpha: Tensor, beta: Tensor, eta: Tensor) -> Tensor:
    """Squared strength of the prediction in units of s2^2: what x tells of x_tilde, and a share a of the rest."""
    told = eta**2 * alpha * beta / (1 + alpha)
    return told + a * (beta - told)
