"""The one walk over the similarities: a loss's value, and its weights W times matrices, in blocks of rows."""

from typing import Any

import torch
from torch import Tensor

from mmcl._blocks import BLOCK, row_blocks
from mmcl._contrastive import ContrastiveLoss

KEEP = 2**23  # the similarities s are kept whole up to this many entries (64 MB in float64)


def weigh(
    z: Tensor, z_tilde: Tensor, loss: ContrastiveLoss, right: Tensor, left: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Value l of the similarities s = z z_tilde^T (..., n, n), with W right and W^T left for (..., n, k) of any width.

    Example:
        >>> from mmcl.losses import Linear
        >>> value, once, _ = weigh(torch.eye(2), torch.eye(2), Linear(), torch.eye(2), torch.eye(2))
        >>> once
        tensor([[ 1., -1.],
                [-1.,  1.]])
    """
    given, n = (z, z_tilde, right, left), z.shape[-2]
    together = max(1, BLOCK // 4 // n**2)  # batch entries whose similarities, 2 MB, stay in the cache
    if max(a.shape[:-2].numel() for a in given) > together:
        batch = torch.broadcast_shapes(*(a.shape[:-2] for a in given))
        flat = [a.expand(*batch, *a.shape[-2:]).flatten(0, -3).split(together) for a in given]
        parts = (_walk(a, b, loss, c, d) for a, b, c, d in zip(*flat, strict=True))
        value, once, back = (torch.cat(a).unflatten(0, batch) for a in zip(*parts, strict=True))
        return value, once, back
    return _walk(z, z_tilde, loss, right, left)


def _walk(
    z: Tensor, z_tilde: Tensor, loss: ContrastiveLoss, right: Tensor, left: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`weigh` for a few batch entries, in blocks of rows where n is large."""
    diagonal = (z * z_tilde).sum(-1)
    n, batch = z.shape[-2], diagonal.shape[:-1].numel()
    blocks = list(row_blocks(n, batch * n, KEEP if batch * n * n <= KEEP else BLOCK))

    def similarities(here: slice) -> Any:
        return loss._prepare(z[..., here, :] @ z_tilde.mT, here.start)

    for here in blocks:
        values = similarities(here)
        row, column = loss._totals(values, diagonal, here.start)
        if here.start == 0:  # whole: small tensors kept between blocks would keep the room of a block from being reused
            rows, columns = row.new_empty(*row.shape[:-1], n), column
        else:
            columns = loss._merge(columns, column)
        rows[..., here] = row
    value, together, by_row, by_column = loss._settle(rows, columns, diagonal)
    once, back = together.unsqueeze(-1) * right, together.unsqueeze(-1) * left
    for here in blocks:
        values = values if len(blocks) == 1 else similarities(here)
        add, add_back = loss._apart_times(
            values, diagonal, here.start, by_row[..., here], by_column, right, left[..., here, :]
        )
        once[..., here, :] += add
        back += add_back
    return value, once, back
