"""Secrets and confirmations: from exactly one source, never from the command line, never asked of nobody."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile

import asyncpg
import pytest

from api.users.models import User
from tests.conftest import PASSWORD
from tests.support.postgres import somebody_waits
from tests.support.processes import APICTL, Apictl, run
from tests.support.terminal import terminal

CREATE = ("create-user", "ada@example.com")


@pytest.mark.parametrize("line", [CREATE, ("set-password", "ada@example.com")])
async def test_no_source_and_no_terminal_is_exit_2_naming_the_flags(
    apictl: Apictl, environment: dict[str, str], line: tuple[str, ...], database: asyncpg.Connection
) -> None:
    ended = await apictl(*line, environment=environment, stdin="ignored\n")
    assert (ended.code, ended.out) == (2, "")
    assert "--password-stdin" in ended.err
    assert await database.fetchval("SELECT count(*) FROM users") == 0


async def test_each_source(
    apictl: Apictl, environment: dict[str, str], tmp_path: Path, database: asyncpg.Connection
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    lines = [
        (["--password-stdin"], {}, PASSWORD + "\n"),
        (["--password-file", str(secret)], {}, None),
        ([], {"APICTL_PASSWORD": PASSWORD}, None),
    ]
    for number, (flags, more, sent) in enumerate(lines):
        email = f"user{number}@example.com"
        ended = await apictl("create-user", email, *flags, environment=environment | more, stdin=sent)
        assert ended.code == 0, ended
        assert PASSWORD not in ended.out + ended.err
        # The line's end is not part of it: the same password logs in, whatever its source.
        changed = await apictl("set-password", email, *flags, environment=environment | more, stdin=sent)
        assert changed.code == 0
    assert await database.fetchval("SELECT count(*) FROM users WHERE password_hash LIKE '$argon2id$%'") == 3


@pytest.mark.parametrize(
    ("flags", "more"),
    [
        (["--password-stdin", "--generate-password"], {}),
        (["--generate-password", "--no-password"], {}),
        (["--generate-password"], {"APICTL_PASSWORD": PASSWORD}),
        (["--password-file", "x", "--password-stdin"], {}),
    ],
)
async def test_two_sources_are_one_too_many(
    apictl: Apictl, environment: dict[str, str], flags: list[str], more: dict[str, str]
) -> None:
    ended = await apictl(*CREATE, *flags, environment=environment | more, stdin=PASSWORD)
    assert ended.code == 2
    assert "two sources" in ended.err


@pytest.mark.parametrize("sent", [b"", b"\n", b"\xff\xfe\xfa password", b"x" * 66_000])
async def test_a_source_that_holds_no_password(
    apictl: Apictl, environment: dict[str, str], sent: bytes, tmp_path: Path
) -> None:
    ended = await apictl(*CREATE, "--password-stdin", environment=environment, stdin=sent)
    assert (ended.code, ended.out) == (2, "")
    secret = tmp_path / "secret"
    secret.write_bytes(sent)
    secret.chmod(0o600)
    assert (await apictl(*CREATE, "--password-file", str(secret), environment=environment)).code == 2


async def test_a_file_that_everybody_can_read_is_refused(
    apictl: Apictl, environment: dict[str, str], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    ended = await apictl(*CREATE, "--password-file", str(secret), environment=environment)
    assert ended.code == 2
    assert "chmod 600" in ended.err
    missing = await apictl(*CREATE, "--password-file", str(tmp_path), environment=environment)
    assert missing.code == 2


@pytest.mark.parametrize("flag", ["--password", "--password=hunter2hunter2hunter2", "-p"])
async def test_there_is_no_option_that_takes_a_password(apictl: Apictl, environment: dict[str, str], flag: str) -> None:
    ended = await apictl(*CREATE, flag, "hunter2hunter2hunter2", environment=environment)
    assert ended.code == 2
    assert "hunter2" not in ended.err
    hint = "no secret is an argument, which others see: --password-stdin, --password-file or APICTL_PASSWORD"
    assert f"hint: {'see: apictl create-user --help' if flag == '-p' else hint}" in ended.err


async def test_a_generated_password_is_shown_once_and_logs_in(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    made = await apictl(*CREATE, "--generate-password", "--fields", "generated_password", environment=environment)
    assert made.code == 0
    password = made.out.strip()
    assert len(password) >= 20
    dump = str(await database.fetch("SELECT * FROM users")) + str(await database.fetch("SELECT * FROM audit_entries"))
    assert password not in dump
    again = await apictl(*CREATE, "--generate-password", "--if-exists", "skip", "-o", "json", environment=environment)
    assert again.json()["changed"] is False
    assert "generated_password" not in again.json()


def test_a_prompt_asks_twice_and_shows_nothing(apictl: Apictl, environment: dict[str, str]) -> None:
    with terminal(*CREATE, environment=environment, start=apictl.start) as seen:
        for again in ("mistyped", PASSWORD):
            seen.wait_for("differ.[^?]*or more\\): " if again == PASSWORD else "or more\\): ")
            seen.type(PASSWORD + "\n")
            seen.wait_for("differ.[^?]*again: " if again == PASSWORD else "again: ")
            seen.type(again + "\n")
        assert seen.end() == 0
        assert PASSWORD not in seen.screen
    with terminal("set-password", "ada@example.com", environment=environment, start=apictl.start) as seen:
        for attempt in range(1, 4):
            seen.wait_for(f"(or more\\): [^?]*){{{attempt}}}")
            seen.type(PASSWORD + "\n")
            seen.wait_for(f"(again: [^?]*){{{attempt}}}")
            seen.type("something else\n")
        assert seen.end() == 8
        assert seen.screen.count("The two differ.") == 3


def test_nobody_is_asked_for_a_password_for_no_address(apictl: Apictl, environment: dict[str, str]) -> None:
    with terminal("create-user", "noat", environment=environment, start=apictl.start) as seen:
        assert seen.end() == 6
        assert "Password" not in seen.screen


def test_the_end_of_input_at_a_prompt_changes_nothing(apictl: Apictl, environment: dict[str, str]) -> None:
    with terminal(*CREATE, environment=environment, start=apictl.start) as seen:
        seen.wait_for("or more\\): ")
        seen.type("\x04")
        assert seen.end() == 8


async def test_a_person_who_thinks_holds_nothing_in_the_database(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    await apictl(*CREATE, "--no-password", environment=environment)
    with terminal("delete-user", "ada@example.com", environment=environment, start=apictl.start) as seen:
        seen.wait_for("to go on: ")
        idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        assert await database.fetchval(idle) == 0
        seen.type("ada@example.com\n")
        assert seen.end() == 0


async def test_deleting_asks_for_the_name(apictl: Apictl, environment: dict[str, str]) -> None:
    await apictl(*CREATE, "--no-password", environment=environment)
    with terminal("delete-user", "ada@example.com", environment=environment, start=apictl.start) as seen:
        seen.wait_for("to go on: ")
        assert "postgresql://" in seen.screen
        assert os.environ.get("PGPASSWORD", "\0") not in seen.screen
        seen.type("yes\n")
        assert seen.end() == 8
    with terminal("delete-user", "ada@example.com", environment=environment, start=apictl.start) as seen:
        seen.wait_for("to go on: ")
        seen.type("ada@example.com\n")
        assert seen.end() == 0
    assert (await apictl("show-user", "ada@example.com", environment=environment)).code == 3


async def test_deleting_without_a_terminal_needs_yes(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    await apictl(*CREATE, "--no-password", environment=environment)
    ended = await apictl("delete-user", "ada@example.com", environment=environment, stdin="ada@example.com\n")
    assert ended.code == 2
    assert "--yes" in ended.err
    assert await database.fetchval("SELECT count(*) FROM users") == 1


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
async def test_a_signal_in_a_transaction_rolls_it_back(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection, sent: signal.Signals, code: int
) -> None:
    """The command waits for a lock that we hold, inside its transaction."""
    await database.execute("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('apictl:superusers', 0))")
    await apictl(*CREATE, "--no-password", environment=environment)
    with TemporaryFile() as err, Path(os.devnull).open("r+b") as nothing:  # noqa: ASYNC230 - no file that blocks
        files = (nothing.fileno(), nothing.fileno(), err.fileno())
        process = apictl.start(["deactivate-user", "ada@example.com"], files, env=environment, cwd=None, terminal=False)
        await somebody_waits(database)
        began = time.monotonic()
        process.send_signal(sent)
        assert process.wait(timeout=10) == code
        assert time.monotonic() - began < 1
        err.seek(0)
        assert b"Traceback" not in err.read()
    await database.execute("ROLLBACK")
    assert await database.fetchval("SELECT is_active FROM users") is True


# `apictl`, struck by a signal while the driver waits for the answer to the statement that it has just sent.
STRUCK = """
import os, signal, sys
from asyncio.selector_events import _SelectorSocketTransport as Transport

write = Transport.write

def write_and_strike(self, data):
    write(self, data)
    if b"pg_advisory_xact_lock" in bytes(data):
        os.kill(os.getpid(), {signal})

Transport.write = write_and_strike
from cli.start import run
run()
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_between_a_statement_and_its_answer_is_still_a_signal(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection, sent: signal.Signals, code: int
) -> None:
    """Raised there, it would be hidden by what the driver then says about the half-done statement."""
    await apictl(*CREATE, "--no-password", environment=environment)
    ended = await run(
        "-c", STRUCK.format(signal=int(sent)), "deactivate-user", "ada@example.com",
        environment=environment, program=sys.executable,
    )  # fmt: skip
    assert (ended.code, ended.out, ended.err) == (code, "", "error: interrupted\n")
    assert await database.fetchval("SELECT is_active FROM users") is True


@pytest.mark.parametrize(
    "line",
    [
        (*CREATE, "--password-stdin"),
        ("set-password", "root@example.com", "--password-stdin"),
        ("bootstrap", "root@example.com", "--password-stdin"),
        ("introspect-token",),
    ],
    ids=lambda line: line[0],
)
async def test_no_secret_is_on_any_command_line_or_in_any_output(
    environment: dict[str, str], superuser: User, line: tuple[str, ...]
) -> None:
    """Row 22: sampled while the command runs, with its children: what `ps` would show, and what they are given."""
    canary = "c4nary four unrelated words"
    more = environment | {"APICTL_SECRET_KEY": "f0e1d2c3b4a5968778695a4b3c2d1e0f" + "c4nary"}
    with subprocess.Popen(  # noqa: ASYNC220 - its end is waited for below
        [APICTL, *line, "-o", "json", "-vv", "--debug"],
        env=more, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(canary.encode())
        process.stdin.close()
        lines, given = set(), set()
        while process.poll() is None:
            for pid in family(process.pid):
                with contextlib.suppress(OSError):
                    lines.add(Path(f"/proc/{pid}/cmdline").read_bytes())
                    given.add(Path(f"/proc/{pid}/environ").read_bytes())
        assert process.stdout is not None
        assert process.stderr is not None
        output = process.stdout.read() + process.stderr.read()
    assert process.returncode == 0, output
    assert b"c4nary" not in b"".join(lines) + output
    # The key was put there by whoever started it.
    assert b"c4nary four" not in b"".join(given)
    assert line[0].encode() in b"".join(lines)
    assert b"c4nary" in b"".join(given)


def family(pid: int) -> list[int]:
    """Return a process, and those that it has started and theirs."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text(encoding="ascii").split())
    return found
