"""What to say about many draws: intervals, slopes and crossings of measured curves."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from mmcl._checks import as_generator


def interval(values: Tensor, dim: int = -1) -> tuple[Tensor, Tensor, Tensor]:
    """Mean over draws and its 95 % confidence limits, mean -+ 1.96 std / sqrt(draws).

    Args:
        values: (..., draws, ...) with at least 2 draws along ``dim``.
        dim: the dimension of the draws.

    Returns:
        mean, low, high without ``dim``.

    Example:
        >>> [round(float(v), 2) for v in interval(torch.tensor([1.0, 2.0, 3.0, 4.0]))]
        [2.5, 1.23, 3.77]
    """
    mean = values.mean(dim)
    half = 1.96 * values.std(dim) / values.shape[dim] ** 0.5
    return mean, mean - half, mean + half


def bootstrap(
    statistic: Callable[..., Tensor], *samples: Tensor, resamples: int = 500, seed: int | Generator = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """95 % percentile interval of a statistic of means over draws.

    Args:
        statistic: function of the means, one (resamples, ...) tensor per sample, vectorised over its first dimension.
        samples: (..., draws) tensors; all are resampled with the same draws, so that their dependence is kept.
        resamples: samples of the draws with replacement.
        seed: int or `torch.Generator`.

    Returns:
        The statistic of the sample means, and its lower and upper limits (quantiles over finite resamples).

    Example:
        >>> a = torch.tensor([1.0, 3.0, 2.0])
        >>> [round(float(v), 6) for v in bootstrap(lambda a, b: a / b, a, 2 * a)]  # one share in every resample
        [0.5, 0.5, 0.5]
    """
    draws = samples[0].shape[-1]
    pick = torch.randint(draws, (resamples, draws), generator=as_generator(seed))
    found = statistic(*(s[..., pick].mean(-1).movedim(-1, 0) for s in samples))
    low, high = found.nanquantile(torch.tensor([0.025, 0.975], dtype=found.dtype), 0)
    return statistic(*(s.mean(-1).unsqueeze(0) for s in samples))[0], low, high


def crossing(x: Sequence[float] | Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Where curve ``a`` first rises above curve ``b``, by linear interpolation between the points.

    Args:
        x: (t,) increasing abscissae.
        a, b: (..., t) values of the two curves.

    Returns:
        (...,) abscissa of the crossing: x[0] if a is above b from the start, NaN if it never is.

    Example:
        >>> float(crossing([0.0, 1.0, 2.0], torch.tensor([0.0, 1.0, 3.0]), torch.tensor([2.0, 2.0, 2.0])))
        1.5
    """
    x = torch.as_tensor(x, dtype=torch.float64)
    gap = a - b
    above = gap > 0
    j = above.to(torch.int8).argmax(-1).clamp(min=1).unsqueeze(-1)
    g0, g1 = gap.gather(-1, j - 1), gap.gather(-1, j)
    at = (x[j - 1] - g0 * (x[j] - x[j - 1]) / (g1 - g0)).squeeze(-1)
    at = at.where(~above[..., 0], x[0])
    return at.where(above.any(-1), torch.nan)


def loglog_slope(x: Sequence[float] | Tensor, y: Tensor) -> Tensor:
    """Least-squares slope of log y against log x.

    Args:
        x: (t,) positive abscissae.
        y: (..., t) positive values.

    Returns:
        (...,) slopes.

    Example:
        >>> round(float(loglog_slope([1.0, 2.0, 4.0], torch.tensor([8.0, 4.0, 2.0]))), 6)
        -1.0
    """
    x = torch.as_tensor(x, dtype=torch.float64).log()
    x = x - x.mean()
    return (y.log() * x).sum(-1) / x.square().sum()


def slope_of_draws(x: Sequence[float] | Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Log-log slope of a curve measured in independent draws, and its standard error.

    The curve is the geometric mean over draws. The spread of log values about it is pooled over the points, so that
    few draws do.

    Args:
        x: (t,) positive abscissae.
        values: (..., t, draws) positive values, independent between points, at least 2 draws.

    Returns:
        slope (...,) and its standard error (...,).

    Example:
        >>> slope, error = slope_of_draws([1.0, 2.0, 4.0], torch.tensor([[8.0, 8.1], [4.1, 4.0], [2.0, 2.0]]))
        >>> round(float(slope), 2), round(float(error), 3)
        (-1.0, 0.008)
    """
    logs = values.log()
    x = torch.as_tensor(x, dtype=torch.float64).log()
    variance = logs.var(-1).mean(-1) / values.shape[-1]
    return loglog_slope(x.exp(), logs.mean(-1).exp()), (variance / (x - x.mean()).square().sum()).sqrt()
