"""The TAB key, in the shells themselves; and what is offered where."""

import shutil
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from api.suggestions.crud import STATEMENTS
from cli.commands import COMMANDS
from cli.completion import SCRIPTS, Shell
from cli.offers import KINDS, complete
from tests.support.processes import APICTL, Apictl
from tests.support.terminal import terminal

QUIET: Final = {Shell.BASH: ["--norc", "--noprofile"], Shell.ZSH: ["-f"], Shell.FISH: ["--no-config"]}


def offers(*typed: str) -> list[str]:
    """Return what fish would be offered, without what is said about it."""
    return [line.partition("\t")[0] for line in complete("fish", list(typed)).splitlines()]


@pytest.mark.parametrize("shell", [*Shell])
async def test_an_address_is_completed_in_a_real_shell(
    apictl: Apictl, environment: dict[str, str], tmp_path: Path, shell: Shell
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    await apictl("create-user", "ada@example.com", "--no-password", environment=environment)
    more = {"PATH": f"{APICTL.parent}:{environment['PATH']}", "PS1": "ready> ", "HOME": str(tmp_path)}
    with terminal(*QUIET[shell], "-i", environment=environment | more, program=program, cwd=tmp_path) as seen:
        seen.type(f"apictl completion {shell} >script; source ./script; echo load''ed\n")
        seen.wait_for("loaded")
        # Behind the @, where bash breaks words.
        seen.type("apictl show-us\tada@ex\t-o ids\n")
        seen.wait_for(r"[0-9a-f]{8}-[0-9a-f]{4}-7")
        seen.type("exit\n")
        seen.end()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["create-u"], ["create-user"]),
        (["--v"], ["--version"]),
        (["no-such-command", ""], []),
        (["list-users", "--so"], ["--sort"]),
        (["list-users", "--sort", "-e"], ["-email"]),
        (["list-users", "--sort=ema"], ["--sort=email"]),
        (["list-users", "--sort", "email", "--so"], []),
        (["create-role", "support", "--scope", "users:read", "--sco"], ["--scope"]),
        # No value follows it, however often it may be given.
        (["list-users", "-v", "--so"], ["--sort"]),
        (["create-user", "ada@example.com", ""], []),
        (["create-user", ""], []),
        (["completion", "--", "f"], ["fish"]),
        (["show-user", "--h"], ["--help"]),
        (["create-role", "support", "--scope", "users:d"], ["users:delete"]),
        ([], list(COMMANDS)),
    ],
)
def test_what_is_offered(typed: list[str], offered: list[str]) -> None:
    assert offers(*typed) == offered


async def test_what_is_offered_from_the_database(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    for line in (
        ["create-user", "ada@example.com", "--no-password"],
        ["create-service-account", "adapter"],
        ["create-role", "support", "--scope", "users:read"],
        ["create-token", "ada@example.com"],
        ["rotate-keys"],
        ["create-api-key", "adapter", "--name", "x"],
    ):
        assert (await apictl(*line, environment=environment)).code == 0, line

    async def told(*typed: str) -> list[str]:
        ended = await apictl("--complete", "fish", *typed, environment=environment)
        assert (ended.code, ended.err) == (0, "")
        return [line.partition("\t")[0] for line in ended.out.splitlines()]

    assert await told("show-user", "ada") == ["ada@example.com", "adapter"]
    assert await told("list-users", "--as", "adapt") == ["adapter"]
    assert await told("grant-role", "ada@example.com", "") == ["support"]
    for line in (["revoke-token", ""], ["rotate-api-key", ""], ["retire-key", ""]):
        found = (await told(*line))[0]
        assert await told(line[0], found[:-1]) == [found]
    # What is here is not what a server has.
    assert await told("show-user", "--server", "http://127.0.0.1:1", "ada") == []
    # A key press says nothing, and makes nothing, whatever is wrong.
    for wrong in ({"APICTL_DATABASE_URL": "postgresql://127.0.0.1:1/x"}, {"APICTL_NO_SUCH": "1"}):
        ended = await apictl("--complete", "zsh", "show-user", "", environment=environment | wrong)
        assert (ended.code, ended.out, ended.err) == (0, "", "")
    for line in (["--complete"], ["--complete", "bash"], ["--complete", "bash", "apictl '"]):
        ended = await apictl(*line, environment=environment)
        assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_every_kind_is_asked_for() -> None:
    assert set(KINDS.values()) == set(STATEMENTS)
    assert set(SCRIPTS) == set(Shell)
