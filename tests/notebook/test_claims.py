import math

import nbformat
import numpy as np
import pytest
import torch

from mmcl.notebook import claims
from mmcl.notebook.claims import (
    CLAIM_MIME,
    NUMBER_MIME,
    Claim,
    ClaimFailed,
    claim,
    claims_of,
    ledger,
    ledger_html,
    numbers_of,
    record,
    table,
)


@pytest.fixture(autouse=True)
def displayed(monkeypatch):
    """An empty ledger, and what is displayed, as (objects, keywords)."""
    seen = []
    monkeypatch.setattr(claims, "_claims", {})
    monkeypatch.setattr(claims, "display", lambda *objects, **keywords: seen.append((objects, keywords)))
    return seen


@pytest.mark.parametrize(
    ("measured", "tolerance", "holds"),
    [
        (1.1, 0.2, True),
        (0.9, 0.2, True),
        (1.3, 0.2, False),
        (0.7, 0.2, False),
        (1.0, 0, True),
        (5.0, (0, math.inf), True),
        (0.99, (0, math.inf), False),
        (0.95, (0.1, math.inf), True),
        (-9.0, (math.inf, 0), True),
        (1.01, (math.inf, 0), False),
        (1.15, (0.1, 0.2), True),
        (0.85, (0.1, 0.2), False),
    ],
)
def test_a_claim_holds_exactly_within_its_tolerance(displayed, measured, tolerance, holds):
    claim("1.1", "one", measured, 1.0, tolerance)
    assert displayed[0][0][0].holds is holds


@pytest.mark.parametrize("measured", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("tolerance", [1e300, (0, math.inf), (math.inf, 0)])
def test_nan_and_infinity_never_hold(displayed, measured, tolerance):
    claim("1.1", "one", measured, 1.0, tolerance)
    assert displayed[0][0][0].holds is False


@pytest.mark.parametrize("one", [1, np.float32(1), np.array(1.0), torch.tensor(1.0), torch.tensor([[1.0]])])
def test_any_single_number_can_be_claimed(displayed, one):
    claim("1.1", "one", one, one, one)
    assert displayed[0][0][0].holds


@pytest.mark.parametrize(
    ("measured", "expected", "tolerance", "named"),
    [
        (np.zeros(2), 0, 1, "measured"),
        (torch.zeros(2), 0, 1, "measured"),
        ("many", 0, 1, "measured"),
        (0, None, 1, "expected"),
        (0, math.nan, 1, "expected"),
        (0, math.inf, 1, "expected"),
        (0, 0, -1, "tolerance"),
        (0, 0, math.nan, "tolerance"),
        (0, 0, math.inf, "tolerance"),
        (0, 0, (-1, math.inf), "tolerance"),
    ],
)
def test_what_is_no_claim_is_refused_by_name(measured, expected, tolerance, named):
    with pytest.raises(ValueError, match=f"claim 1.1: {named}"):
        claim("1.1", "one", measured, expected, tolerance)


@pytest.mark.parametrize("id", ["", "two words", "a[1]", "-a", '"', 1.2, None])
def test_an_id_that_is_no_word_is_refused(id):
    with pytest.raises(ValueError, match="must be a word"):
        claim(id, "one", 0, 0, 0)
    with pytest.raises(ValueError, match="must be a word"):
        record(id, "one", 0)


@pytest.mark.parametrize("id", ["thm-3.1.rate-in-n", "2.10b", "lem-7.2"])
def test_ids_are_words_with_points_and_hyphens(displayed, id):
    claim(id, "one", 0, 0, 0)
    assert displayed[0][0][0].id == id


@pytest.mark.parametrize(
    ("measured", "expected", "tolerance", "texts"),
    [
        (2.134e-15, 0, 1e-12, ("2.13e-15", "0", "± 1e-12")),
        (1.00031, 1, 1e-4, ("1.00031", "1", "± 0.0001")),
        (0.7312, 0.5, (0, math.inf), ("0.731", "≥ 0.5", "")),
        (0.7312, 0.5, (0.01, math.inf), ("0.7312", "≥ 0.5", "− 0.01")),
        (0.1, 0.5, (math.inf, 0), ("0.1", "≤ 0.5", "")),
        (0.55, 0.5, (0, 0.1), ("0.55", "0.5", "− 0 + 0.1")),
        (1797, 1797, 0, ("1797", "1797", "± 0")),
        (-0.0, 0, 1, ("0", "0", "± 1")),
        (math.nan, 0, 1, ("nan", "0", "± 1")),
    ],
)
def test_numbers_are_shown_with_sensible_digits(displayed, measured, expected, tolerance, texts):
    claim("1.1", "one", measured, expected, tolerance)
    assert displayed[0][0][0].row[2:5] == texts


def test_the_verdict_is_told_in_words(displayed):
    claim("1.1", "a $<$ b", 1, 0, 0.5)
    claim("1.2", "c", 0, 0, 0.5)
    first, second = (objects[0]._repr_mimebundle_() for objects, _ in displayed)
    assert "does not hold" in first["text/plain"]
    assert "does not hold" in first["text/html"]
    assert "a $&lt;$ b" in first["text/html"]
    assert second["text/plain"] == "✓ holds [1.2] c: measured 0, expected 0 ± 0.5"


def test_a_claim_survives_its_json_even_if_infinite(displayed):
    claim("1.1", "one", math.nan, 0.1, (0, math.inf))
    made = displayed[0][0][0]
    data = made._repr_mimebundle_()[CLAIM_MIME]
    assert all(isinstance(v, str) or math.isfinite(v) for v in data.values())
    assert str(Claim.from_json(data)) == str(made)


def test_the_ledger_raises_naming_just_the_claims_that_do_not_hold():
    claim("1.1", "first", 0, 0, 1)
    claim("1.2", "second", 9, 0, 1)
    with pytest.raises(ClaimFailed, match=r"\[1.2\] second") as caught:
        ledger()
    assert "first" not in str(caught.value)


def test_running_a_cell_again_replaces_its_claim(displayed):
    claim("1.1", "first", 9, 0, 1)
    claim("1.1", "first", 0, 0, 1)
    ledger()
    assert len(displayed[-1][0][0]) == 1


def test_a_claim_id_used_twice_in_a_notebook_is_refused():
    data = {CLAIM_MIME: Claim("1.1", "one", 0, 0, 0, 0)._repr_mimebundle_()[CLAIM_MIME]}
    output = nbformat.v4.new_output("display_data", data=data)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output, output])])
    with pytest.raises(ValueError, match="claim id 1.1 is used twice"):
        claims_of(notebook)


@pytest.mark.parametrize("value", [0.25, torch.tensor([[0.25]]), np.float32(0.25)])
def test_a_recorded_number_is_shown_and_read_back_and_is_no_claim(displayed, value):
    record("error", "error of $x$", value)
    ((data,), _) = displayed[0]
    assert data["text/plain"] == "[error] error of $x$: 0.25"
    output = nbformat.v4.new_output("display_data", data=data)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])])
    assert numbers_of(notebook) == {"error": {"id": "error", "statement": "error of $x$", "measured": 0.25}}
    assert claims_of(notebook) == []
    record("error", "infinite", math.inf)
    assert displayed[1][0][0][NUMBER_MIME]["measured"] == "inf"


def test_the_table_is_aligned_and_wraps_statements():
    lines = table([Claim("1.1", "word " * 30, 1, 1, 0, 0), Claim("1.10", "short", 0.5, 1, 0, 0)]).splitlines()
    start = lines[0].index("measured")
    assert lines[2][start:].startswith("1 ")
    assert lines[-1][start:].startswith("0.5 ")
    assert lines[-1].endswith("NO")
    assert max(map(len, lines)) < 110


def test_what_the_ledger_shows_of_a_claim_links_to_it_on_a_page_only():
    made = [Claim("thm-1.1", "a $<$ b", 1, 1, 0, 0), Claim("1.2", "c", 2, 1, 0, 0)]
    plain, linked = ledger_html(made), ledger_html(made, lambda text: f"<i>{text}</i>", "x.html")
    assert "<td>thm-1.1</td><td>a $&lt;$ b</td><td>1</td><td>1</td><td>± 0</td>" in plain
    assert '<td><a href="x.html#claim-thm-1.1">thm-1.1</a></td><td><i>a $<$ b</i></td>' in linked
    assert plain.count('<tr class="fails">') == 1
    assert "href" not in plain
