"""What a server may do to a command that asks it, and to its terminal; and Ctrl-C, whatever it waits for."""

import asyncio
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

import pytest

from tests.cli.test_at_a_terminal import said, sleeps, wait_until
from tests.cli.test_remote_answers import CANARY, USER
from tests.support.answering import always, answering, document
from tests.support.processes import Apictl, Process, bare_environment, from_nothing, run
from tests.support.terminal import terminal

# `apictl`, with a name server that does not answer; and one that waits for nobody's answer for long.
RESOLVING: Final = """
import socket, sys, time
socket.getaddrinfo = lambda *_, **__: (print("asked", file=sys.stderr, flush=True), time.sleep(30))
from cli.start import run
run()
"""
HASTY: Final = "import cli.asking; cli.asking.TIMEOUT = 0.2; from cli.start import run; run()"


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that has a token, and neither a database nor a secret key."""
    return bare_environment(XDG_CONFIG_HOME=str(tmp_path / "config"), APICTL_TOKEN=CANARY)


async def test_what_a_server_says_a_terminal_does_not_obey(
    apictl: Apictl, elsewhere: dict[str, str], tmp_path: Path
) -> None:
    """In a question, in the lines of a plan, in a file that is shown and not kept."""
    evil = "a\x1b[2J\x1b]0;title\x07\x9b31m\u202e@b.co"
    plan = {
        "owner": "x",
        "changes": [{"action": "create", "kind": "user", "name": evil, "fields": [], "changed_by": evil}],
        "unchanged": 0,
        "taken_over": [],
        "released": [],
        "digest": "",
    }
    file = f"email\n{evil}\n\u00e4\n".encode()
    kind = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/csv\r\nContent-Length: %d\r\n\r\n%b"
    (tmp_path / "state.yaml").write_text("owner: x")

    async def answer(request: str) -> bytes:
        if "/v1/plan" in request:
            return document(plan)
        return kind % (len(file), file) if "/v1/bulk" in request else document(USER | {"email": evil})

    async with answering(answer) as (port, _):

        def seen(*words: str, code: int, typed: str = "") -> str:
            line = [*words, "--no-color", "--server", f"http://127.0.0.1:{port}"]
            with terminal(*line, environment=elsewhere, start=apictl.start) as it:
                if typed:
                    it.wait_for("to go on: ")
                    it.type(typed)
                assert it.end() == code, it.screen
                return it.screen

        for words, code, typed in (
            (("delete-user", "x"), 8, "no\n"),
            (("plan", "-f", str(tmp_path / "state.yaml")), 10, ""),
            (("export-users",), 0, ""),
        ):
            screen = await asyncio.to_thread(partial(seen, *words, code=code, typed=typed))
            assert [line for line in screen.split("\n") if not line.isprintable()] == [], (words, screen)
            assert "a\\x1b[2J" in screen
        assert "\u00e4" in screen
        # For a program, it is as it is.
        ended = await apictl("export-users", "--server", f"http://127.0.0.1:{port}", environment=elsewhere)
        assert ended.out.encode() == file


async def test_a_list_without_end(apictl: Apictl, elsewhere: dict[str, str]) -> None:
    async with answering(always({"items": [], "next_cursor": "x"})) as (port, requests):
        ended = await apictl("list-users", "--all", "--server", f"http://127.0.0.1:{port}", environment=elsewhere)
    assert (ended.code, "never ends" in ended.err, len(requests)) == (7, True, 2), ended.err


async def test_more_refused_rows_than_are_said(apictl: Apictl, elsewhere: dict[str, str]) -> None:
    rows = [{"line": line, "email": "x", "field": "email", "code": "x", "message": "bad"} for line in range(2, 27)]
    report = {
        "rows": 25,
        "created": 0,
        "unchanged": 0,
        "failed": 25,
        "errors": rows,
        "changed": False,
        "dry_run": False,
    }

    async def answer(request: str) -> bytes:
        return document(USER if request.startswith("GET") else report)

    async with answering(answer) as (port, _):
        line = ("import-users", "-", "--server", f"http://127.0.0.1:{port}")
        ended = await apictl(*line, environment=elsewhere, stdin="email\n")
    assert (ended.code, "and 5 more" in ended.err, "--results" in ended.err) == (9, True, False), ended.err


async def test_what_does_not_answer_may_have_been_done(elsewhere: dict[str, str]) -> None:
    async def answer(_: str) -> bytes:
        await asyncio.sleep(30)
        return b""

    async with answering(answer) as (port, requests):
        for words, hint in ((["activate-user", "x"], "it may have been done"), (["show-user", "x"], "run it again")):
            line = ["-c", HASTY, *words, "--server", f"http://127.0.0.1:{port}"]
            ended = await run(*line, environment=elsewhere, program=sys.executable)
            assert (ended.code, hint in ended.err, "reached" in ended.err) == (7, True, False), ended.err
            assert "cause: nothing came for 0.2 seconds" in ended.err
    assert len(requests) == 2


def ends_at_once(process: Process) -> None:
    """Press Ctrl-C."""
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    assert time.monotonic() - began < 1


def test_ctrl_c_while_a_name_server_does_not_answer(elsewhere: dict[str, str]) -> None:
    line = [sys.executable, "-c", RESOLVING, "list-users", "--server", "https://accounts.example.com"]
    with TemporaryFile() as out, TemporaryFile() as err:
        process = from_nothing(
            line, (out.fileno(), out.fileno(), err.fileno()), env=elsewhere, cwd=None, terminal=False
        )
        wait_until(lambda: "asked" in said(err), process)
        ends_at_once(process)
        assert "error: interrupted" in said(err)


def test_ctrl_c_while_a_pipe_has_no_token(apictl: Apictl, elsewhere: dict[str, str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    there = {"APICTL_SERVER": "http://127.0.0.1:1", "APICTL_TOKEN": "", "APICTL_TOKEN_FILE": str(tmp_path / "pipe")}
    with TemporaryFile() as out:
        files = (out.fileno(), out.fileno(), out.fileno())
        process = apictl.start(["list-users"], files, env=elsewhere | there, cwd=None, terminal=False)
        # Opening it waits for whoever reads.
        writing = os.open(tmp_path / "pipe", os.O_WRONLY)
        # A signal between Python's last look for one and the wait itself is seen when the wait is over.
        wait_until(partial(sleeps, process), process)
        ends_at_once(process)
        os.close(writing)
