"""Each deliberate mistake of `broken_ideas` is noticed by the chapter that argues the idea and by a unit test."""

from functools import cache

import pytest
from broken_ideas import IDEAS, NOTEBOOKS, broken, chapter_claims, run_test

pytestmark = pytest.mark.slow


@cache
def unbroken(chapter):
    """All claims of a chapter that the table names, without a mistake."""
    return chapter_claims(chapter, tuple(c for idea in IDEAS.values() if idea.chapter == chapter for c in idea.claims))


@pytest.mark.parametrize("name", IDEAS)
def test_the_chapter_that_argues_an_idea_fails_without_it(name):
    idea = IDEAS[name]
    right = unbroken(idea.chapter)
    with broken(name):
        wrong = chapter_claims(idea.chapter, idea.claims, idea.stored)
    assert {c: (right[c].holds, wrong[c].holds) for c in idea.claims} == dict.fromkeys(idea.claims, (True, False))


@pytest.mark.parametrize("name", IDEAS)
def test_a_unit_test_fails_without_an_idea(name):
    for test in IDEAS[name].tests:
        with broken(name), pytest.raises(AssertionError):
            run_test(test)


def test_every_unit_test_of_the_table_passes_when_nothing_is_broken():
    for test in {test for idea in IDEAS.values() for test in idea.tests}:
        run_test(test)


def test_every_chapter_has_an_idea_that_can_be_broken():
    assert {path.name[:2] for path in NOTEBOOKS.glob("[0-9]*.py")} == {idea.chapter for idea in IDEAS.values()}


def test_a_mistake_is_taken_back_everywhere():
    import mmcl
    from mmcl import covariance, spectral

    before = covariance.truncated_svd, covariance.cross_covariance, spectral.closed_form
    with broken("divisor n"), broken("penalty multiplies"):
        assert mmcl.cross_covariance is covariance.cross_covariance is not before[1]
        assert spectral.closed_form is not before[2]
    assert (covariance.truncated_svd, mmcl.cross_covariance, spectral.closed_form) == before
