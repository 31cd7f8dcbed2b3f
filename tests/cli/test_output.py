"""What goes to stdout and what to stderr, in every form, on a pipe and on a terminal."""

import csv
import io
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

import asyncpg
import pytest
import yaml

from api import __version__
from api.users.models import User
from tests.conftest import SUPERUSER
from tests.support.processes import APICTL, Apictl, Finished, run
from tests.support.terminal import terminal


@pytest.fixture
async def ada(apictl: Apictl, environment: dict[str, str]) -> str:
    made = await apictl(
        "create-user",
        "ada@example.com",
        "--full-name",
        "Ada Lovelace",
        "--no-password",
        "-o",
        "ids",
        environment=environment,
    )
    return made.out.strip()


async def listed(apictl: Apictl, environment: dict[str, str], *more: str) -> Finished:
    ended = await apictl("list-users", *more, environment=environment)
    assert (ended.code, ended.err) == (0, "")
    return ended


async def test_forms_of_a_list(apictl: Apictl, environment: dict[str, str], ada: str) -> None:
    rows = (await listed(apictl, environment, "-o", "json")).json()
    assert set(rows) == {"items", "next_cursor"}
    user = rows["items"][0]
    assert user["id"] == ada
    assert json.loads((await listed(apictl, environment, "-o", "jsonl")).out) == user
    assert yaml.safe_load((await listed(apictl, environment, "-o", "yaml")).out) == [user]
    table = list(csv.DictReader(io.StringIO((await listed(apictl, environment, "-o", "csv")).out)))
    assert table[0]["full_name"] == "Ada Lovelace"
    assert list(table[0]) == list(user)
    assert (await listed(apictl, environment, "-o", "ids")).out == f"{ada}\n"
    assert (await listed(apictl, environment)).out == f"{ada}\tada@example.com\tAda Lovelace\ttrue\tfalse\t\n"
    assert (await listed(apictl, environment, "--fields", "email, id")).out == f"ada@example.com\t{ada}\n"
    assert "EMAIL" in (await listed(apictl, environment, "-o", "table")).out


async def test_a_misspelt_field_leaves_nothing_done(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection, empty_url: str
) -> None:
    """Else a generated password would be lost with the output that was refused."""
    line = ("create-user", "bea@example.com", "--generate-password", "--fields", "pasword")
    ended = await apictl(*line, environment=environment)
    assert (ended.code, ended.out) == (2, "")
    assert await database.fetchval("SELECT count(*) FROM users") == 0
    migrated = await apictl("migrate", "--fields", "x", environment=environment | {"APICTL_DATABASE_URL": empty_url})
    assert migrated.code == 2
    status = await apictl(
        "migration-status", "-o", "json", environment=environment | {"APICTL_DATABASE_URL": empty_url}
    )
    assert status.json()["current"] is None
    # A field that this run has not, but another would have, is empty.
    await apictl("create-user", "bea@example.com", "--no-password", environment=environment)
    again = ("create-user", "bea@example.com", "--generate-password", "--if-exists", "skip")
    ended = await apictl(*again, "--fields", "email,generated_password", environment=environment)
    assert (ended.code, ended.out) == (0, "bea@example.com\t\n")


async def test_what_the_encoding_cannot_show_is_escaped(apictl: Apictl, environment: dict[str, str]) -> None:
    line = ("create-user", "zoe@example.com", "--full-name", "Zoë", "--no-password", "--fields", "full_name")
    ended = await run(*line, environment=environment | {"PYTHONIOENCODING": "ascii"})
    assert (ended.code, ended.out, ended.err) == (0, "Zo\\xeb\n", "")


async def test_an_unknown_field_is_named(apictl: Apictl, environment: dict[str, str], ada: str) -> None:
    ended = await apictl("list-users", "--fields", "email,password_hash", environment=environment)
    assert (ended.code, ended.out) == (2, "")
    assert "password_hash" in ended.err


async def test_a_cut_list_says_so(apictl: Apictl, environment: dict[str, str], ada: str) -> None:
    await apictl("create-user", "bob@example.com", "--no-password", environment=environment)
    cut = await apictl("list-users", "--limit", "1", "-o", "ids", environment=environment)
    assert len(cut.out.splitlines()) == 1
    assert "--all" in cut.err
    assert len((await listed(apictl, environment, "--all", "--limit", "1", "-o", "ids")).out.splitlines()) == 2
    quiet = await apictl("list-users", "--limit", "1", "-o", "ids", "-q", environment=environment)
    assert quiet.err == ""


@pytest.mark.parametrize(("columns", "more"), [("80", {}), ("160", {}), ("160", {"NO_COLOR": "1"})])
def test_a_table_has_the_columns_that_there_is_room_for(
    apictl: Apictl, environment: dict[str, str], superuser: User, columns: str, more: dict[str, str]
) -> None:
    own = environment | {"COLUMNS": columns} | more
    issue = ("create-token", SUPERUSER, "--fields", "session_id,access_token", "-o", "csv")
    with terminal(*issue, environment=environment, start=apictl.start) as seen:
        assert seen.end() == 0
    issued = seen.screen.split()[1].partition(",")[0]
    with terminal("list-tokens", environment=own, start=apictl.start) as seen:
        assert seen.end() == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", seen.screen).splitlines()
    if columns == "80":
        assert "LAST USED AT" not in lines[0]
        assert lines[2].startswith("No room for last_used_at, address, scopes: ")
    else:
        assert re.split("  +", lines[0])[4:] == ["LAST USED AT", "USER AGENT", "ADDRESS", "SCOPES"]
        assert len(lines) == 2
    # One line a row: no id and no time in pieces.
    assert lines[1].split()[:4] == [issued, SUPERUSER, "-", "yes"]
    # Whose they are need not be said twice; and nothing is not silence.
    for line, expected in (
        (["list-tokens", SUPERUSER], ["ID", "LABEL", "LIVE"]),
        (["list-api-keys", SUPERUSER], ["There", "is", "nothing"]),
    ):
        with terminal(*line, environment=own, start=apictl.start) as seen:
            assert seen.end() == 0
        assert re.sub(r"\x1b\[[0-9;]*m", "", seen.screen).split()[:3] == expected


def test_columns_that_were_asked_for_are_all(apictl: Apictl, environment: dict[str, str], superuser: User) -> None:
    with terminal("list-users", "--fields", "email", environment=environment, start=apictl.start) as seen:
        assert seen.end() == 0
    assert SUPERUSER in seen.screen
    assert "No room" not in seen.screen


def test_what_is_in_an_object_is_a_table_too(apictl: Apictl, environment: dict[str, str], superuser: User) -> None:
    with terminal("rotate-keys", "--no-color", environment=environment, start=apictl.start) as seen:
        assert seen.end() == 0
    assert re.search(r"^public_jwk +x=\S+ alg=EdDSA", seen.screen, re.MULTILINE)
    assert "{" not in seen.screen


async def test_errors_are_lines_or_one_problem(apictl: Apictl, environment: dict[str, str]) -> None:
    told = await apictl("show-user", "none@example.com", environment=environment)
    assert (told.code, told.out) == (3, "")
    assert told.err.startswith("error: There is no user none@example.com\nhint: ")
    problem = await apictl("show-user", "none@example.com", "-o", "json", environment=environment)
    assert json.loads(problem.err)["code"] == "user-not-found"
    usage = await apictl("list-users", "--limit", "many", "-o", "json", environment=environment)
    assert (usage.code, json.loads(usage.err)["code"]) == (2, "bad-request")
    several = await apictl("list-users", "--limit", "0", "--cursor", "x" * 2000, environment=environment)
    assert several.code == 6
    assert several.err.count("field: ") == 2


async def test_misspelt_commands_and_options_suggest_and_do_nothing(
    apictl: Apictl, environment: dict[str, str]
) -> None:
    ended = await apictl("creat-user", "ada@example.com", "--no-password", environment=environment)
    assert ended.code == 2
    assert "create-user" in ended.err
    ended = await apictl("list-users", "--serach", "x", environment=environment)
    assert ended.code == 2
    assert "--search" in ended.err
    assert (await listed(apictl, environment)).out == ""


async def test_what_was_put_in_the_wrong_place_is_said(apictl: Apictl, environment: dict[str, str]) -> None:
    ended = await apictl("-o", "json", "list-users", environment=environment)
    assert (ended.code, "options come after the command: apictl list-users" in ended.err) == (2, True), ended.err
    # It may be a secret, which the screen need not repeat.
    ended = await apictl("introspect-token", "apictl_key_secret", environment=environment)
    assert (ended.code, "apictl_key_secret" in ended.err, "--help" in ended.err) == (2, False, True), ended.err


async def test_no_command_is_help_and_a_failure(apictl: Apictl, environment: dict[str, str]) -> None:
    ended = await apictl(environment=environment)
    assert ended.code == 2
    assert "Usage: apictl" in ended.out


async def test_version(apictl: Apictl, environment: dict[str, str]) -> None:
    for line in (["--version"], ["-V"]):
        ended = await apictl(*line, environment=environment)
        assert (ended.code, ended.out, ended.err) == (0, f"apictl {__version__}\n", "")


WRITES: Final = [
    ["list-users"],
    ["list-users", "-o", "table"],
    ["list-users", "-o", "json"],
    ["show-user", "ada@example.com", "-o", "table"],
    ["export-users"],
    ["--help"],
    ["show-user", "-h"],
    ["completion", "bash"],
]


@pytest.mark.parametrize("line", [*WRITES, ["--version"]])
def test_a_full_disk_is_one_line_and_exit_1(
    apictl: Apictl, environment: dict[str, str], ada: str, line: list[str]
) -> None:
    with Path(os.devnull).open("rb") as nothing, Path("/dev/full").open("wb") as full, TemporaryFile() as err:
        files = (nothing.fileno(), full.fileno(), err.fileno())
        process = apictl.start(line, files, env=environment, cwd=None, terminal=False)
        assert process.wait() == 1
        err.seek(0)
        said = err.read().decode()
    assert said == "error: the output could not be written: No space left on device\n"


def test_streams_that_are_closed_are_no_bug(environment: dict[str, str], ada: str) -> None:
    line = (
        f"'{APICTL}' show-user nobody@example.com 2>&-; echo $?; '{APICTL}' show-user {ada} >&-; echo $?; "
        f"'{APICTL}' show-user nobody@example.com >&- 2>&-; echo $?"
    )
    ended = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=False)
    # What has nothing to print has done what it was asked for.
    assert (ended.stdout, ended.stderr) == (
        "3\n1\n3\n",
        "error: the output could not be written: Bad file descriptor\n",
    )
    line = f"'{APICTL}' delete-user {ada} <&-; echo $?; '{APICTL}' completion bash >/dev/full; echo $?"
    ended = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout == "2\n1\n"
    assert ended.stderr.splitlines() == [
        "error: This needs a confirmation, and there is no terminal to ask on",
        "hint: use --yes",
        "error: the output could not be written: No space left on device",
    ]


@pytest.mark.parametrize("line", WRITES)
def test_a_reader_that_leaves_ends_it_quietly(
    apictl: Apictl, environment: dict[str, str], ada: str, line: list[str]
) -> None:
    """As with `| head -1`: the end by SIGPIPE, which a shell says as 141, or that exit code."""
    reading, writing = os.pipe()
    os.close(reading)
    with Path(os.devnull).open("rb") as nothing, TemporaryFile() as err:
        files = (nothing.fileno(), writing, err.fileno())
        process = apictl.start(line, files, env=environment, cwd=None, terminal=False)
        os.close(writing)
        assert process.wait() in {-signal.SIGPIPE, 141}
        err.seek(0)
        assert err.read() == b""
