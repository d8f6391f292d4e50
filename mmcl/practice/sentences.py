"""An audit in words: what was given, what was found, what to do next."""

from collections.abc import Sequence

from torch import Tensor

from mmcl.practice.audit import Audit
from mmcl.practice.files import Given


def described(given: Given) -> list[tuple[str, str, str]]:
    """What was given: (what, how it is, what to do) for each, in words."""
    n, unpaired = len(given.x), (len(given.x_unpaired), len(given.y_unpaired))
    uneven = max(given.spread) > 100
    return [
        ("pairs", f"{n:,} with {given.x.shape[1]} and {given.y.shape[1]} features",
         "Give at least 300: fewer say little." if n < 300 else "Enough to go on."),
        ("missing", f"{_number(given.missing, 'pair')} with a missing or infinite value",
         "They were left out; impute them if there are many." if given.missing else "Nothing to do."),
        ("repeated", f"{_number(given.repeated, 'pair')} with a row that another pair has, too",
         "Drop repeats, or a pair is judged by its twin." if given.repeated else "Nothing to do."),
        ("scale", f"features differ {given.spread[0]:,.0f}-fold and {given.spread[1]:,.0f}-fold in spread",
         "They are standardised here; do so wherever you use them." if uneven else "Nothing to do."),
        ("unpaired", f"{unpaired[0]:,} and {unpaired[1]:,} rows without a partner",
         "Section 6 looks for partners." if min(unpaired) else "Give x_unpaired and y_unpaired to look for partners."),
    ]  # fmt: skip


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def unnamed(found: Audit) -> str:
    """How many wrong pairs are expected, and how many of them the suspects leave, in words."""
    n, listed = len(found.score), found.suspects
    expected = found.wrong_share.value * n
    left = max(0.0, expected - float(found.probability[listed].sum()))
    return f"Of about {expected:,.0f} wrong pairs to expect, some {left:,.0f} are not on it."


def summary(found: Audit, related: int, sure: Tensor | None) -> str:
    """The whole audit in a few sentences, without a theory.

    Args:
        found: the audit.
        related: dimensions above chance.
        sure: probabilities of the recovered pairs, or None if none were looked for.
    """
    n, share, bound = len(found.score), found.wrong_share, found.wrong_share_upper
    if not related:
        return f"{n:,} pairs; no relation that can be told from chance."
    said = [f"{n:,} pairs, related in {_number(related, 'dimension')}."]
    if found.power.sees:
        said.append(
            f"About {share.value:.1%} of them are wrong ({share.low:.1%} to {share.high:.1%}), at most "
            f"{bound.high:.1%}; {_number(len(found.suspects), 'suspect')} can be named."
        )
    else:
        said.append("Whether pairs are wrong cannot be seen here.")
    if sure is not None:
        said.append(f"Of the unpaired rows {_number(len(sure), 'pair')} can be proposed.")
    return " ".join(said)


def next_steps(found: Audit, related: int, rank: int, sure: Tensor | None, best: str | None = None) -> Sequence[str]:
    """What to do next, a sentence for each finding.

    Args:
        found: the audit.
        related, rank: canonical correlations above chance, and dimensions used.
        sure: probabilities of the recovered pairs, or None if none were looked for.
        best: what retrieves best, as of `best_retrieval`.
    """
    if not related:
        return ("The two sides show no relation that can be told from chance: check that rows are in one order, "
                "or give more pairs.",)  # fmt: skip
    share, bound = found.wrong_share, found.wrong_share_upper
    steps = [
        f"Keep all {rank} dimensions: each is related beyond chance."
        if related >= rank
        else f"Keep the first {related} dimensions: the next is not above chance.",
        "Take linear encoders: no other way is clearly better."
        if best in (None, "linear")
        else f"Take {best}: it retrieves held-out rows best.",
    ]
    if not found.power.sees:
        steps.append("Whether pairs are wrong cannot be seen here: give more pairs, or features that tell more.")
    elif len(found.suspects) == 0:
        steps.append("No pair stands out as wrong.")
    else:
        steps.append(
            f"Look at the {_number(len(found.suspects), 'suspect')} of suspects.csv, from the top. "
            "A larger fdr (-p fdr=0.3) lists more of the wrong pairs, and more right ones with them."
        )
    if found.power.sees and share.value > 0.05:
        steps.append(
            "Until they are mended, fit with the column weight of suspects.csv as sample weights: on the data tried "
            "no loss could be seen, and it gains where many pairs are wrong."
        )
    elif found.power.sees:
        few = f"Few pairs are wrong ({share.value:.1%} by the estimate, at most {bound.high:.1%})"
        steps.append(f"{few}: train on all of them alike.")
    if sure is not None:
        steps.append(
            f"Check the {_number(len(sure), 'pair')} of recovered.csv, the most probable first: below 0.9 they are "
            "guesses."
            if len(sure)
            else "Leave the unpaired rows unpaired."
        )
    return steps
