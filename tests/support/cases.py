"""How many cases a test invents: every day fewer than in CI, whose second run invents them all."""

import os


def cases(number: int) -> int:
    """Return how many of `number` cases to try: all of them with APICTL_TEST_THOROUGH, else a fifth."""
    return number if os.environ.get("APICTL_TEST_THOROUGH") else max(1, number // 5)
