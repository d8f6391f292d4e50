"""Which tests run a notebook: those that use what a notebook made, besides those that say so themselves."""

import pytest
from browser import Browser

RUN_A_NOTEBOOK = {"good", "broken", "asked", "one_by_one", "cluster", "pages", "source"}


def pytest_collection_modifyitems(items):
    for item in items:
        if RUN_A_NOTEBOOK & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kernel)


@pytest.fixture(scope="module")
def browser():
    """A page that the tests of a file share."""
    made = Browser()
    yield made
    made.close()
