r"""Three or more modalities: the additive loss (7.6), its contrastive cross-covariances, and a fit (Section 7.4).

With views x^1, ..., x^M of the same n samples and an encoder G_mu of each,

    L_M(G_1, ..., G_M) = sum_{mu < mu'} [ l(s^{mu,mu'}) + rho/2 ||G_mu^T G_mu'||_F^2 ],
    s^{mu,mu'}_ij = <G_mu x^mu_i, G_mu' x^mu'_j>,

and Corollary 7.1 says dL_M/dG_mu = -sum_{mu' != mu} G_mu' (S_{mu,mu'} - rho G_mu^T G_mu')^T: the gradient of the sum of
the SVD objectives, with S_{mu',mu} = S_{mu,mu'}^T.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from mmcl._checks import as_encoders, at_least, paired, positive, rank_at_most
from mmcl.covariance import linear_covariance, loss_and_covariance
from mmcl.losses import ContrastiveLoss, Linear, resolve

PairTerms = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # g_mu, g_mu' -> l(s), S
Terms = dict[tuple[int, int], PairTerms]


@dataclass(frozen=True)
class MultimodalFit:
    """Encoders of M modalities.

    Attributes:
        encoders: M tensors (..., rank, d_mu), unique up to one orthogonal matrix from the left common to all.
        loss: (...,) L_M with its penalties.
        steps: sweeps over the modalities.
        converged: (...,) bool, whether the tolerance was met.
        history: (steps + 1, ...) L_M before the first sweep and after each.
    """

    encoders: tuple[Tensor, ...]
    loss: Tensor
    steps: int
    converged: Tensor
    history: Tensor


def additive_loss(
    views: Sequence[Tensor], encoders: Sequence[Tensor], loss: str | ContrastiveLoss = "clip", rho: float = 1.0
) -> Tensor:
    """L_M of (7.6): the contrastive loss and the penalty, summed over all pairs of modalities.

    Args:
        views: M tensors (..., n, d_mu), row i of each the same sample.
        encoders: M tensors (..., r, d_mu).
        loss: a name in `mmcl.losses.LOSSES` or a loss object.
        rho: weight of each penalty.

    Returns:
        (...,).

    Raises:
        ValueError: for bad views, encoders or loss.

    Example:
        >>> views = [torch.eye(3), 2 * torch.eye(3), torch.ones(3, 2)]
        >>> additive_loss(views, [torch.ones(1, 3), torch.ones(1, 3), torch.ones(1, 2)], "linear", rho=2.0)
        tensor(21.)
    """
    value, _ = loss_and_covariances(views, encoders, loss)
    for a, b in combinations(encoders, 2):
        value = value + rho / 2 * (a.mT @ b).square().sum((-2, -1))
    return value


def loss_and_covariances(
    views: Sequence[Tensor], encoders: Sequence[Tensor], loss: str | ContrastiveLoss
) -> tuple[Tensor, dict[tuple[int, int], Tensor]]:
    """sum_{mu < mu'} l(s^{mu,mu'}), and S_{mu,mu'}(beta) (..., d_mu, d_mu') for every ordered pair mu != mu'.

    Args, Raises: as for `additive_loss`. Reference: PMLR 206:4348, Corollary 7.1.

    Example:
        >>> views = [torch.eye(3), torch.eye(3), torch.ones(3, 2)]
        >>> _, s = loss_and_covariances(views, [torch.ones(1, 3), torch.ones(1, 3), torch.ones(1, 2)], "clip")
        >>> sorted(s), s[2, 0].shape
        ([(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)], torch.Size([2, 3]))
    """
    views, encoders = _checked(views, encoders)
    value, covariances = torch.zeros(()).to(views[0]), {}
    for mu, other in combinations(range(len(views)), 2):
        term, s = loss_and_covariance(views[mu], views[other], encoders[mu], encoders[other], loss)
        value = value + term
        covariances[mu, other], covariances[other, mu] = s, s.mT
    return value, covariances


def modality_gradient(
    views: Sequence[Tensor], encoders: Sequence[Tensor], mu: int, loss: str | ContrastiveLoss = "clip", rho: float = 1.0
) -> Tensor:
    """dL_M/dG_mu (..., r, d_mu) by Corollary 7.1, from the S_{mu,mu'} alone.

    Args, Raises: as for `additive_loss`; ``mu`` counts the modalities from 0.

    Example:
        >>> views = [torch.eye(3), torch.eye(3), torch.ones(3, 2)]
        >>> modality_gradient(views, [torch.ones(1, 3), torch.ones(1, 3), torch.ones(1, 2)], 2, rho=0.5)
        tensor([[3., 3.]])
    """
    views, encoders = _checked(views, encoders)
    return -_block(_pair_terms(views, resolve(loss)), encoders, mu, rho).up


def fit_modalities(
    views: Sequence[Tensor],
    rank: int,
    loss: str | ContrastiveLoss = "linear",
    rho: float = 1.0,
    tol: float = 1e-8,
    max_steps: int = 500,
) -> MultimodalFit:
    """Encoders that minimise L_M, one modality after the other.

    With the others and S(beta) held fixed the sum of the SVD objectives is quadratic in G_mu, maximal at C^+ B/rho with
    B = sum_{mu' != mu} G_mu' S_{mu,mu'}^T and C = sum_{mu' != mu} G_mu' G_mu'^T. The step is G_mu + step C^+ (B - rho
    C G_mu): at step = 1/rho, the longest tried, it is that maximiser, exact for the linear loss. It is halved until
    L_M falls, and a whole sweep is prolonged where L_M falls by it. The start is spectral, the leading eigenvectors of
    the block matrix of the S_{mu,mu'} at zero encoders: for two views and the linear loss the answer of Lemma 2.1.

    Args:
        views: M >= 2 tensors (..., n, d_mu), torch or numpy, row i of each the same sample.
        rank: encoder dimension r, 1 to min(d_mu).
        loss: a name in `mmcl.losses.LOSSES` or a loss object.
        rho: weight of each penalty, > 0.
        tol: converged when ||dL_M/dG_mu||_F is at most tol ||B||_F for every modality.
        max_steps: sweeps over the modalities at most.

    Returns:
        `MultimodalFit`. L_M never rises; with three modalities or more the limit is a stationary point, not
        necessarily the minimum.

    Raises:
        ValueError: for fewer than two views, bad data, rank, rho, tol or loss.

    Reference: PMLR 206:4348, Section 7.4 and Corollary 7.1; the paper takes plain gradient steps instead.

    Example:
        >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> found = fit_modalities([x, x[:, :3], x[:, 1:]], 2)
        >>> bool(found.converged), [tuple(g.shape) for g in found.encoders]
        (True, [(2, 4), (2, 3), (2, 3)])
    """
    views, _ = _checked(views)
    rank = rank_at_most(rank, *(x.shape[-1] for x in views))
    positive(rho=rho, tol=tol)
    at_least(1, max_steps=max_steps)
    terms, modalities = _pair_terms(views, resolve(loss)), range(len(views))
    now = _spectral_start(terms, views, rank, rho)
    history = [_total([_block(terms, now, mu, rho) for mu in modalities])]
    lengths = [torch.full_like(history[0], 1 / rho) for _ in views]
    reach = torch.ones_like(history[0])
    for _ in range(max_steps):
        before = [*now]
        for mu in modalities:
            now[mu], lengths[mu] = _ascend(terms, now, mu, rho, lengths[mu])
        now, reach = _extrapolate(terms, before, now, rho, reach)
        blocks = [_block(terms, now, mu, rho) for mu in modalities]
        history.append(_total(blocks))
        converged = torch.stack([block.up.norm(dim=(-2, -1)) <= tol * block.b.norm(dim=(-2, -1)) for block in blocks])
        if converged.all():
            break
    return MultimodalFit(tuple(now), history[-1], len(history) - 1, converged.all(0), torch.stack(history))


@dataclass(frozen=True)
class _Block:
    """What L_M is in one encoder G_mu: the terms that hold it, B, C, and -dL_M/dG_mu = B - rho C G_mu."""

    value: Tensor
    b: Tensor
    c: Tensor
    up: Tensor


def _block(terms: Terms, encoders: Sequence[Tensor], mu: int, rho: float) -> _Block:
    g, others = encoders[mu], [other for other in range(len(encoders)) if other != mu]
    pairs = [terms[mu, other](g, encoders[other]) for other in others]
    b = torch.stack([encoders[other] @ s.mT for other, (_, s) in zip(others, pairs, strict=True)]).sum(0)
    c = torch.stack([encoders[other] @ encoders[other].mT for other in others]).sum(0)
    penalty = rho / 2 * (g * (c @ g)).sum((-2, -1))
    return _Block(torch.stack([value for value, _ in pairs]).sum(0) + penalty, b, c, b - rho * c @ g)


def _ascend(terms: Terms, encoders: list[Tensor], mu: int, rho: float, step: Tensor) -> tuple[Tensor, Tensor]:
    """G_mu + step C^+ up, the step halved until L_M falls by enough; and the step to begin with the next time.

    Enough is Armijo's condition in Hager and Zhang's form, by the slopes at both ends, which rounding cannot fool.
    """
    now = _block(terms, encoders, mu, rho)
    direction = torch.linalg.pinv(now.c, hermitian=True) @ now.up
    slope = (direction * now.up).sum((-2, -1))
    rounding = 64 * torch.finfo(slope.dtype).eps * now.value.abs()
    while True:
        trial = encoders[mu] + step[..., None, None] * direction
        then = _block(terms, [*encoders[:mu], trial, *encoders[mu + 1 :]], mu, rho)
        bend = slope - (direction * then.up).sum((-2, -1))  # step times the curvature of L_M along the direction
        falls = (bend <= 1.99 * slope) & (then.value <= now.value + rounding)
        stuck = step * rho < 1e-12
        if (falls | stuck).all():
            best = step * slope / bend.clamp(min=torch.finfo(slope.dtype).tiny)
            return trial.where(falls[..., None, None], encoders[mu]), best.clamp(1e-6 / rho, 1 / rho)
        step = step.where(falls, step / 2)


def _extrapolate(
    terms: Terms, before: list[Tensor], now: list[Tensor], rho: float, reach: Tensor
) -> tuple[list[Tensor], Tensor]:
    """The last sweep once more, ``reach`` times as far, where L_M falls by it; then the next may reach further."""
    trial = [g + reach[..., None, None] * (g - old) for g, old in zip(now, before, strict=True)]
    value, further = (_total([_block(terms, g, mu, rho) for mu in range(len(g))]) for g in (now, trial))
    falls = further < value
    chosen = [a.where(falls[..., None, None], b) for a, b in zip(trial, now, strict=True)]
    return chosen, torch.where(falls, 1.5 * reach, 0.5)


def _spectral_start(terms: Terms, views: Sequence[Tensor], rank: int, rho: float) -> list[Tensor]:
    """Leading eigenvectors of the symmetric block matrix of the S_{mu,mu'}, scaled as for two modalities."""
    zero = [x.new_zeros(*x.shape[:-2], rank, x.shape[-1]) for x in views]
    blank = [x.new_zeros(*x.shape[:-2], x.shape[-1], x.shape[-1]) for x in views]
    indices = range(len(views))
    blocks = [[blank[a] if a == b else terms[a, b](zero[a], zero[b])[1] for b in indices] for a in indices]
    values, vectors = torch.linalg.eigh(torch.cat([torch.cat(row, -1) for row in blocks], -2))
    top = vectors[..., -rank:] * (2 * values[..., -rank:].clamp(min=0) / (rho * (len(views) - 1))).sqrt().unsqueeze(-2)
    return [g.mT for g in top.flip(-1).split([x.shape[-1] for x in views], -2)]


def _pair_terms(views: Sequence[Tensor], loss: ContrastiveLoss) -> Terms:
    """For every ordered pair of modalities, l(s) and S as functions of the two encoders."""

    def of(x: Tensor, x_tilde: Tensor) -> PairTerms:
        if isinstance(loss, Linear):  # S is one matrix for all encoders, and l = -tr(G S G'^T)
            s = linear_covariance(x, x_tilde, loss)
            return lambda g1, g2: (-(s * (g1.mT @ g2)).sum((-2, -1)), s)
        return lambda g1, g2: loss_and_covariance(x, x_tilde, g1, g2, loss)

    return {(a, b): of(x, y) for a, x in enumerate(views) for b, y in enumerate(views) if a != b}


def _total(blocks: Sequence[_Block]) -> Tensor:
    """L_M: every pair stands in two blocks."""
    return torch.stack([block.value for block in blocks]).sum(0) / 2


def _checked(views: Sequence[Tensor], encoders: Sequence[Tensor] | None = None) -> tuple[list[Tensor], list[Tensor]]:
    if len(views) < 2:
        raise ValueError(f"{len(views)} view(s); a contrastive loss compares modalities, so give at least 2")
    views = [paired(views[0], views[0])[0], *(paired(views[0], x)[1] for x in views[1:])]
    if encoders is None:
        return views, []
    if len(encoders) != len(views):
        raise ValueError(f"{len(encoders)} encoders for {len(views)} views; give one a view")
    return views, [as_encoders(views[0], x, encoders[0], g)[1] for x, g in zip(views, encoders, strict=True)]
