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
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "yaml",
    "zxcvbn",
}
PROGRAM: Final = """
import atexit, os, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
os._exit = sys.exit
sys.argv[0] = "apictl"
from cli.start import run
run()
"""


def needless(*arguments: str, among: set[str], environment: dict[str, str] | None = None) -> list[str]:
    """Return which of these modules a command line imports."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment or bare_environment(), check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    names = ended.stderr.splitlines()[-1].split()
    assert "cli.start" in names, ended.stderr
    return sorted(among.intersection(names))


def test_version() -> None:
    assert not needless("--version", among=LIBRARIES | {"asyncio", "pydantic", "rich", "typer", "cli.main"})


@pytest.mark.parametrize("arguments", [["--help"], [], ["--complete", "fish", "list-"]])
def test_help_and_names(arguments: list[str]) -> None:
    assert not needless(*arguments, among=LIBRARIES | {"asyncio", "pydantic", "rich", "typer", "api.config"})


@pytest.mark.parametrize("arguments", [["create-user", "--help"], ["create-user", "--no-such-option"], ["no-such"]])
def test_help_and_usage_errors_of_a_command(arguments: list[str]) -> None:
    assert not needless(*arguments, among=LIBRARIES | {"asyncio", "rich", "api.config"})


def test_a_command_that_needs_the_database(environment: dict[str, str]) -> None:
    heavy = {"email_validator", "fastapi", "httpx2", "jwt", "pydantic_settings", "rich", "webauthn", "yaml", "zxcvbn"}
    assert not needless("show-user", "ada@example.com", among=heavy, environment=environment)
