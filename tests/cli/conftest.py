"""Here the commands themselves are looked at: what they run is measured."""

import pytest

from tests.support.processes import measured


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a process that works on this test's database, and measures its coverage."""
    return environment | measured()
