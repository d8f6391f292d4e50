import pytest
from scipy.stats import binom

from mmcl.reports.seeds import held, seeds, table

CHAPTER = """# %% [markdown]
# # 1 A coin

# %% tags=["parameters"]
seed: int = 0  # of every random number

# %%
from mmcl.notebook.claims import claim, ledger
claim("coin.even", "the seed is even", seed % 2, 0, 0)
claim("coin.sure", "two is two", 2, 2, 0)

# %%
ledger()
"""


def test_the_interval_is_that_of_the_exact_binomial_tails():
    rows = [{"claims": [{"id": "a", "holds": k < 28}]} for k in range(30)]
    (row,) = held(rows)
    assert row[:3] == ("a", 28, 30)
    # P(X >= 28 | low) = P(X <= 28 | high) = 0.025

    assert binom.sf(27, 30, row.low) == pytest.approx(0.025)
    assert binom.cdf(28, 30, row.high) == pytest.approx(0.025)


def test_a_point_that_stopped_before_a_claim_counts_against_it():
    assert held([{"claims": [{"id": "a", "holds": True}]}, {"claims": []}])[0].holds == 1


def test_the_table_names_what_failed_and_counts_the_rest():
    text = table(held([{"claims": [{"id": "a", "holds": k > 0}, {"id": "b", "holds": True}]} for k in range(4)]))
    assert text.splitlines()[0].startswith("a  3 of 4  [0.194, 0.994]")
    assert text.endswith("1 of 2 claims hold at every seed, so each at more than 0.398 of all")


@pytest.mark.kernel
def test_a_claim_that_depends_on_the_seed_is_found_out(tmp_path):
    source = tmp_path / "01_coin.py"
    source.write_text(CHAPTER)
    (tmp_path / "profiles.yaml").write_text("smoke: {}\n")
    rows = {row.id: row.holds for row in seeds(source, 2, tmp_path / "out")}
    assert rows == {"coin.even": 1, "coin.sure": 2}
