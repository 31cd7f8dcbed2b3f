"""One browser for all of these tests in a process; each has a tab that shares nothing with the others'."""

from collections.abc import Iterator

import pytest

from tests.support.browser import Chromium, Page, running


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """The browser."""
    with running(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def tab(chromium: Chromium) -> Iterator[Page]:
    """An empty tab."""
    with chromium.tab() as opened:
        yield opened
