"""The terminal answers at once: what a command does not need is not imported."""

import subprocess
import sys
from typing import Final

import pytest

from tests.support.processes import bare_environment

LIBRARIES: Final = {
    "alembic",
    "argon2",
    "asyncpg",
    "bcrypt",
    "cryptography",
    "email_validator",
    "fastapi",
    "jwt",
    "passlib",
    "pydantic_settings",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "yaml",
    "zxcvbn",
}
PROGRAM: Final = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
sys.argv[0] = "apictl"
from cli.main import run
run()
"""


def needless(*arguments: str, among: set[str]) -> list[str]:
    """Return which of these modules a command line imports."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=bare_environment(), check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    names = ended.stderr.splitlines()[-1].split()
    assert "cli.main" in names, ended.stderr
    return sorted(among.intersection(names))


def test_version() -> None:
    assert not needless("--version", among=LIBRARIES | {"asyncio", "pydantic", "rich", "typer", "cli.app"})


@pytest.mark.parametrize("arguments", [["--help"], []], ids=["help", "no arguments"])
def test_help(arguments: list[str]) -> None:
    assert not needless(*arguments, among=LIBRARIES | {"asyncio", "api.config", "cli.users"})


@pytest.mark.parametrize("arguments", [["create-user", "--help"], ["create-user", "--no-such-option"], ["no-such"]])
def test_help_and_usage_errors_of_a_command(arguments: list[str]) -> None:
    assert not needless(*arguments, among=LIBRARIES | {"asyncio", "api.config"})
