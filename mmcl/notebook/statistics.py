"""What to say about many draws: intervals, slopes and crossings of measured curves."""

import torch

from mmcl._checks import as_generator


def interval(values, dim=-1):
    """Mean over draws and its 95 % confidence limits (normal): three tensors without ``dim``."""
    mean = values.mean(dim)
    half = 1.96 * values.std(dim) / values.shape[dim] ** 0.5
    return mean, mean - half, mean + half


def bootstrap(statistic, *samples, resamples=500, seed=0):
    """95 % percentile interval of a statistic of means over draws.

    Args:
        statistic: function of the means, one (resamples, ...) tensor per sample, vectorised over its first dimension.
        samples: (..., draws) tensors; all are resampled with the same draws, so that their dependence is kept.

    Returns:
        The statistic of the sample means, and its lower and upper limits (quantiles over finite resamples).
    """
    draws = samples[0].shape[-1]
    pick = torch.randint(draws, (resamples, draws), generator=as_generator(seed))
    found = statistic(*(s[..., pick].mean(-1).movedim(-1, 0) for s in samples))
    low, high = found.nanquantile(torch.tensor([0.025, 0.975], dtype=found.dtype), 0)
    return statistic(*(s.mean(-1).unsqueeze(0) for s in samples))[0], low, high


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
