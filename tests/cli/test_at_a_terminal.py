"""What a person meets at a terminal, and nobody else: questions, Ctrl-C, colours, bars."""

import fcntl
import os
import re
import signal
import sys
import termios
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.cli.test_every_command import EVE, LINES, STATE, options, rows
from tests.support.processes import Apictl, Process, bare_environment, from_nothing
from tests.support.terminal import terminal

# What asks for a secret, and what it says to use instead.
SECRET: Final = {
    "create-user": ([EVE], "--password-stdin"),
    "set-password": ([EVE], "--password-stdin"),
    "introspect-token": ([], "pipe it in"),
    "bootstrap": (["ops@example.com"], "--password-stdin"),
}
DESTROYS: Final = {
    name: ([one for one in line if one != "--yes"], "use --yes") for name, line in LINES.items() if "--yes" in line
}


def test_whatever_destroys_asks() -> None:
    assert set(DESTROYS) == {name for name in LINES if "yes" in options(name)}


async def test_every_question_can_be_forbidden_and_left(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection, tmp_path: Path
) -> None:
    """With `--no-input` nobody is asked; else the database is named, and Ctrl-C is 130 in under a second."""
    for line in (
        ["create-user", EVE, "--no-password"],
        ["create-api-key", EVE, "--name", "x"],
        ["create-role", "helper", "--scope", "users:read"],
    ):
        assert (await apictl(*line, environment=environment)).code == 0
    made = (await apictl("rotate-keys", "-o", "ids", environment=environment)).out.strip()
    (tmp_path / "state.yaml").write_text(STATE, encoding="utf-8")
    known = {"{rotate-keys}": made, "-": str(tmp_path / "state.yaml")}
    before = await rows(database)
    named = urlsplit(environment["APICTL_DATABASE_URL"]).path
    for name, (line, hint) in (SECRET | DESTROYS).items():
        arguments = [known.get(one, one) for one in line]
        with terminal(name, *arguments, "--no-input", environment=environment, start=apictl.start) as seen:
            assert (seen.end(), hint in seen.screen) == (2, True), (name, seen.screen)
        with terminal(name, *arguments, environment=environment, start=apictl.start) as seen:
            seen.wait_for("to go on: |or more\\): |Token: ")
            assert name in SECRET or re.search(rf" in postgresql://\S*{named}", seen.screen), seen.screen
            # A signal between Python's last look for one and the wait itself is seen when the wait is over.
            wait_until(partial(sleeps, seen.process), seen.process)
            began = time.monotonic()
            seen.type("\x03")
            assert (seen.end(), "Traceback" in seen.screen) == (130, False), name
            assert seen.screen.endswith("\nerror: interrupted\n"), (name, seen.screen)
            assert time.monotonic() - began < 1, name
    assert await rows(database) == before


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("line", [["migrate", "--wait-for-database", "60"], ["import-users", "-"]])
def test_a_wait_ends_at_once(
    apictl: Apictl, environment: dict[str, str], line: list[str], sent: signal.Signals, code: int
) -> None:
    """For a database that does not answer, or for more of what is to be imported."""
    own = bare_environment(APICTL_DATABASE_URL="postgresql://127.0.0.1:1/x") if line[0] == "migrate" else environment
    reading, writing = os.pipe()
    with TemporaryFile() as out, TemporaryFile() as err:
        files = (reading, out.fileno(), err.fileno())
        os.write(writing, b"email\n")
        process = apictl.start(line, files, env=own, cwd=None, terminal=False)
        wait_until(lambda: bool(said(err)) or not unread(reading), process)
        began = time.monotonic()
        process.send_signal(sent)
        assert process.wait(timeout=20) == code
        assert time.monotonic() - began < 1
        assert ("error: interrupted" in said(err), "Traceback" in said(err)) == (True, False), said(err)
    os.close(reading)
    os.close(writing)


def sleeps(process: Process) -> bool:
    """Tell whether a command waits for something, by its state (proc(5))."""
    return Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "S"


def said(err: IO[bytes]) -> str:
    """Return what is in the file that a command's stderr is."""
    return os.pread(err.fileno(), 65536, 0).decode()


def unread(pipe: int) -> int:
    """Return how many bytes are in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def wait_until(is_so: Callable[[], bool], process: Process) -> None:
    """Wait until something is so, while a command runs."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert process.poll() is None, "it ended"
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("more", "own"), [([], {}), (["--no-color"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})]
)
def test_colours_and_bars_only_where_they_are_wanted(
    apictl: Apictl, environment: dict[str, str], tmp_path: Path, more: list[str], own: dict[str, str]
) -> None:
    file = tmp_path / "users.csv"
    file.write_text("email\nnew@example.com\n")
    is_wanted = not more and not own
    for line, code, is_coloured in (
        (["import-users", str(file), *more], 0, True),
        (["show-user", "new@example.com", *more], 0, True),
        (["list-users", *more], 0, True),
        (["show-user", "-h", *more], 0, True),
        (["show-user", "nobody@example.com", *more], 3, False),
        (["show-user", "--no-such-option", *more], 2, False),
    ):
        with terminal(*line, environment=environment | own, start=apictl.start) as seen:
            assert seen.end() == code, seen.screen
        assert ("\x1b" in seen.screen) is (is_wanted and is_coloured), (line, seen.screen)


# `apictl`, which does not wait for five seconds to say how far it is.
OFTEN: Final = "import cli.bulk; cli.bulk.SELDOM = 0.01; from cli.start import run; run()"


def test_where_nobody_watches_a_line_now_and_then_says_how_far_it_is(environment: dict[str, str]) -> None:
    reading, writing = os.pipe()
    line = [sys.executable, "-c", OFTEN, "import-users", "-"]
    with TemporaryFile() as out, TemporaryFile() as err:
        files = (reading, out.fileno(), err.fileno())
        process = from_nothing(line, files, env=environment, cwd=None, terminal=False)
        wait_until(lambda: bool(said(err)), process)
        os.write(writing, b"email\nnew@example.com\n")
        os.close(writing)
        assert process.wait(timeout=20) == 0
        assert re.fullmatch(r"([\d,]+ rows, [\d,]+ a second\n)+", said(err)), said(err)
    os.close(reading)


def test_a_terminal_that_draws_no_bar_is_told_too(environment: dict[str, str]) -> None:
    own = environment | {"TERM": "dumb"}
    with terminal("-c", OFTEN, "import-users", "-", environment=own, program=sys.executable) as seen:
        seen.wait_for("0 rows, 0 a second")
        seen.type("email\nnew@example.com\n\x04")
        assert (seen.end(), "\x1b" in seen.screen) == (0, False), seen.screen
