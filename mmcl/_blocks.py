"""The one walk over blocks of rows, for what is too large to be held whole."""

from collections.abc import Iterator

BLOCK = 2**20  # entries of one block


def row_blocks(stop: int, entries_per_row: int, at_most: int = BLOCK, start: int = 0) -> Iterator[slice]:
    """Slices that cover the rows start, ..., stop - 1 once and in order, each of as many rows as hold ``at_most``
    entries, but of one row at least.

    Args:
        stop: first row no longer covered.
        entries_per_row: numbers that a row of the block holds, batch entries included.
        at_most: numbers that a block holds.
        start: first row covered.

    Example:
        >>> list(row_blocks(7, entries_per_row=10, at_most=30))
        [slice(0, 3, None), slice(3, 6, None), slice(6, 7, None)]
    """
    rows = max(1, at_most // max(1, entries_per_row))
    for first in range(start, stop, rows):
        yield slice(first, min(first + rows, stop))
