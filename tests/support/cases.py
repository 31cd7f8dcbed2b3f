"""How many cases a test invents: every day fewer than in CI, whose second run invents them all."""

import os
from pathlib import Path
from typing import Final

# Read while the tests are collected: in a test, nothing from outside is left in the environment.
THOROUGH: Final = bool(os.environ.get("APICTL_TEST_THOROUGH"))
# What `make fuzz` wants: so many requests for each operation, and their number added to this file.
REQUESTS: Final = int(os.environ.get("APICTL_FUZZ_REQUESTS", "0"))
COUNT: Final = os.environ.get("APICTL_FUZZ_COUNT", os.devnull)


def cases(number: int) -> int:
    """Return how many of `number` cases to try: all of them with APICTL_TEST_THOROUGH, else a tenth."""
    return number if THOROUGH else max(1, number // 10)


def count(number: int) -> None:
    """Tell `make fuzz` of so many requests more."""
    with Path(COUNT).open("a", encoding="ascii") as counted:
        counted.write(f"{number}\n")
