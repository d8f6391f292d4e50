"""Six pairs with round numbers: small enough to read every similarity, weight and sum in the cells of a figure."""

from typing import NamedTuple

import torch
from torch import Tensor


class SixPairs(NamedTuple):
    """Six pairs of the model (3.2), with names as in `mmcl.data.Spiked`.

    Attributes:
        x: (6, 3) first modality: the two coordinates of a hexagon's corner, then a coordinate of noise, +1 or -1.
        x_tilde: (6, 2) second modality: a corner of the same hexagon. All columns have mean zero.
        u1, u2: (3, 2), (2, 2) the signal directions; the encoders u1.mT, u2.mT read off the corners.
        wrong: (6,) bool, the pairs whose two corners differ.
    """

    x: Tensor
    x_tilde: Tensor
    u1: Tensor
    u2: Tensor
    wrong: Tensor


def six_pairs(wrong: int = 0) -> SixPairs:
    """Six pairs whose shared part is the hexagon (2, 0), (1, 2), (-1, 2), (-2, 0), (-1, -2), (1, -2).

    Args:
        wrong: number of wrongly matched pairs, 0 or 2 to 6: the last ``wrong`` rows of the second modality move on by
            one row, so every wrong pair has its true partner in the sample, as in the model (3.2) of Section 3.1.

    Returns:
        SixPairs, float64, the same at every call.

    Raises:
        ValueError: if ``wrong`` is not one of these numbers; one pair alone cannot be wrong.

    Example:
        >>> pairs = six_pairs(wrong=2)
        >>> pairs.x[-2:].int().tolist(), pairs.x_tilde[-2:].int().tolist()
        ([[-1, -2, 1], [1, -2, -1]], [[1, -2], [-1, -2]])
    """
    if wrong not in (0, 2, 3, 4, 5, 6):
        raise ValueError(f"wrong = {wrong}; 0 or 2 to 6 of the six pairs can be wrong, never one alone")
    corners = torch.tensor([[2, 0], [1, 2], [-1, 2], [-2, 0], [-1, -2], [1, -2]], dtype=torch.float64)
    noise = torch.tensor([1, -1, 1, -1, 1, -1], dtype=torch.float64)
    right = 6 - wrong
    x_tilde = torch.cat([corners[:right], corners[right:].roll(-1, 0)])
    u1 = torch.eye(3, 2, dtype=torch.float64)
    return SixPairs(torch.column_stack([corners, noise]), x_tilde, u1, u1[:2].clone(), torch.arange(6) >= right)
