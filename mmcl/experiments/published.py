"""Numbers the authors published, from the paper and from the notebooks that came with it."""

import json
from importlib.resources import files
from typing import Any


def published(section: str) -> dict[str, Any]:
    """Numbers the authors published: in the paper, or in the output cells of the notebooks that came with it.

    Args:
        section: "table_1", "figure_1" or "figure_2" as printed; or "5.2" (synthetic, unpaired data) or "5.3" (MNIST
            and Fashion-MNIST) for the notebook of a section.

    Returns:
        dict with `provenance`. A figure has `what` is shown, and a list for its axis and for each curve. A notebook
        has `setting` (what was run), `metric` (in words), and the curves `paired_only` and `with_unpaired`, lists of
        floats: over `N` in 5.2; over epochs in 5.3, which has `oracle_pairs` as well.

    Raises:
        ValueError: for what is not kept. The notebook of 5.1 is at chance.

    Example:
        >>> published("5.2")["with_unpaired"][-1]
        0.5962

    Reference: published.json beside this file, which names the repository, its licence and the commit.
    """
    numbers = json.loads(files("mmcl.experiments").joinpath("published.json").read_text("utf-8"))
    source, kept = numbers.pop("provenance"), numbers
    key = f"section_{str(section).replace('.', '_')}"
    if section not in kept and key not in kept:
        names = ", ".join(name.replace("section_5_", "5.") for name in kept)
        raise ValueError(f"section = {section!r}; published numbers are kept of {names}")
    return {"provenance": source, **kept.get(section, kept.get(key))}
