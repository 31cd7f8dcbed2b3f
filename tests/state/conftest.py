"""Fixtures of the tests of states."""

import pytest

from tests.state.states import Terminal
from tests.support.processes import Apictl


@pytest.fixture
def terminal(apictl: Apictl, environment: dict[str, str], superuser: object) -> Terminal:
    """The terminal, beside a superuser who is there already."""
    del superuser
    return Terminal(apictl, environment)
