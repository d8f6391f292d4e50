r"""Three or more modalities: the additive loss (7.6), its contrastive cross-covariances, and a fit (Section 7.4).

With views x^1, ..., x^M of the same n samples and an encoder G_mu of each,

    L_M(G_1, ..., G_M) = sum_{mu < mu'} [ l(s^{mu,mu'}) + rho/2 ||G_mu^T G_mu'||_F^2 ],
    s^{mu,mu'}_ij = <G_mu x^mu_i, G_mu' x^mu'_j>,

and Corollary 7.1 says dL_M/dG_mu = -sum_{mu' != mu} G_mu' (S_{mu,mu'} - rho G_mu^T G_mu')^T: the gradient of the sum of
the SVD objectives, with S_{mu',mu} = S_{mu,mu'}^T.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from mmcl._block_ascent import ascend, block, blocks, extrapolate, pair_terms, spectral_start, total
from mmcl._checks import as_encoders, at_least, integer, no_less_than, paired, positive, rank_at_most
from mmcl.covariance import evaluate
from mmcl.losses import ContrastiveLoss, resolve


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
    no_less_than(0, rho=rho)
    views, encoders = _checked(views, encoders)
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
    loss = resolve(loss)
    value, covariances = torch.zeros(()).to(views[0]), {}
    for mu, other in combinations(range(len(views)), 2):
        term, s = evaluate(views[mu], views[other], encoders[mu], encoders[other], loss)
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
    integer(0, len(views) - 1, mu=mu)
    no_less_than(0, rho=rho)
    return -block(pair_terms(views, resolve(loss)), encoders, mu, rho).up


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
    terms = pair_terms(views, resolve(loss))
    now = spectral_start(terms, views, rank, rho)
    history = [total(blocks(terms, now, rho))]
    lengths = [torch.full_like(history[0], 1 / rho) for _ in views]
    reach = torch.ones_like(history[0])
    for _ in range(max_steps):
        before = [*now]
        for mu in range(len(views)):
            now[mu], lengths[mu] = ascend(terms, now, mu, rho, lengths[mu])
        now, reach = extrapolate(terms, before, now, rho, reach)
        parts = blocks(terms, now, rho)
        history.append(total(parts))
        converged = torch.stack([a.up.norm(dim=(-2, -1)) <= tol * a.b.norm(dim=(-2, -1)) for a in parts]).all(0)
        if converged.all():
            break
    return MultimodalFit(tuple(now), history[-1], len(history) - 1, converged, torch.stack(history))


def _checked(views: Sequence[Tensor], encoders: Sequence[Tensor] | None = None) -> tuple[list[Tensor], list[Tensor]]:
    if not isinstance(views, list | tuple):
        raise ValueError(f"views are a {type(views).__name__}; give a list of (..., n, d) arrays, one a modality")
    if len(views) < 2:
        raise ValueError(f"{len(views)} view(s); a contrastive loss compares modalities, so give at least 2")
    views = [paired(views[0], views[0])[0], *(paired(views[0], x)[1] for x in views[1:])]
    if encoders is None:
        return views, []
    if len(encoders) != len(views):
        raise ValueError(f"{len(encoders)} encoders for {len(views)} views; give one a view")
    return views, [as_encoders(views[0], x, encoders[0], g)[1] for x, g in zip(views, encoders, strict=True)]
