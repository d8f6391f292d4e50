"""Numbers the authors published, from the paper and from the notebooks that came with it."""

import json
from importlib.resources import files
from typing import Any


def published(section: str) -> dict[str, Any]:
    """Numbers the authors published: the figures in the output cells of the notebooks that came with the paper.

    Args:
        section: "5.2" (synthetic, unpaired data) or "5.3" (MNIST and Fashion-MNIST).

    Returns:
        dict with `setting` (what was run), `metric` (in words), `provenance`, and the curves `paired_only` and
        `with_unpaired`, lists of floats: over `N` in 5.2; over epochs in 5.3, which has `oracle_pairs` as well.

    Raises:
        ValueError: for a section without published numbers. That of 5.1 is at chance, so it is not kept.

    Example:
        >>> published("5.2")["with_unpaired"][-1]
        0.5962

    Reference: published.json beside this file, which names the repository, its licence and the commit.
    """
    numbers = json.loads(files("mmcl.experiments").joinpath("published.json").read_text("utf-8"))
    key = f"section_{str(section).replace('.', '_')}"
    if key not in numbers:
        raise ValueError(f"section = {section!r}; published numbers are kept of sections 5.2 and 5.3")
    return {**numbers[key], "provenance": numbers["provenance"]}
