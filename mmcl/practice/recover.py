"""Which unpaired rows belong together? At a controlled false discovery rate, and with a reason if none is found."""

from typing import Any

import torch

from mmcl._checks import at_least
from mmcl.beyond.refit import Refit, detect_and_refit
from mmcl.practice.inputs import as_pair, as_view, usable_rows
from mmcl.practice.robust import standard


def recover(
    X: Any, Y: Any, X_unpaired: Any, Y_unpaired: Any, *, n_components: int = 20, ridge: float = 0.1, fdr: float = 0.1
) -> Refit:
    """Partners among unpaired rows: `mmcl.detect_and_refit` on rows whitened by those of their modality.

    Args:
        X, Y: (n, d1), (n, d2) known pairs.
        X_unpaired, Y_unpaired: (N1, d1), (N2, d2) further rows.
        n_components: dimensions that are compared; at most those of the features, and few enough for the pairs.
        ridge: of the whitening.
        fdr: share of wrong pairs among those recovered to accept.

    Returns:
        `mmcl.beyond.refit.Refit`: .pairs, .confidence, and .reason if there are none. Its encoders take whitened rows.

    Raises:
        ValueError: for bad data or options.

    Example:
        >>> from mmcl.data import spiked
        >>> p = spiked(400, 12, 10, rank=4, noise_std=0.05)
        >>> found = recover(p.x[:300], p.x_tilde[:300], p.x[300:], p.x_tilde[300:].flip(0), n_components=4)
        >>> len(found.pairs) > 80, bool((found.pairs.sum(1) == 99).double().mean() > 0.8)
        (True, True)
        >>> found = recover(p.x[:300], p.x_tilde[:300].roll(1, 0), p.x[300:], p.x_tilde[300:], n_components=4)
        >>> len(found.pairs), found.reason[:22]
        (0, 'too weak a relation: h')
    """
    at_least(1, n_components=n_components)
    (x, y), _ = usable_rows(as_pair(X, Y), slice(None), False)
    more, more_tilde = (
        usable_rows((as_view(name, rows),), slice(None), False)[0][0]
        for name, rows in (("X_unpaired", X_unpaired), ("Y_unpaired", Y_unpaired))
    )
    n, rank = len(x), min(n_components, x.shape[1], y.shape[1], max(1, len(x) // 5))
    a = standard(torch.cat([x, more]).double(), ridge)[0]
    b = standard(torch.cat([y, more_tilde]).double(), ridge)[0]
    return detect_and_refit(a[:n], b[:n], a[n:], b[n:], rank, fdr=fdr)
