"""README's commands, run as they are written, in a shell on a terminal; their answers are compared with README's."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.cases import THOROUGH
from tests.support.processes import bare_environment
from tests.support.terminal import Terminal, terminal

ROOT: Final = Path(__file__).parent.parent
BLOCK: Final = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROMPT: Final = "ready> "
# What differs from run to run, by what it looks like.
MASKS: Final = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "TIME"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r"\b(?:[2-9a-z]{6}-){4}[2-9a-z]{3}\b"), "PASSWORD"),
    (re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]"), ""),
)


def masked(text: str) -> list[str]:
    for pattern, word in MASKS:
        text = pattern.sub(word, text)
    return [line.rstrip() for line in text.strip().splitlines()]


def steps(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a block with its answer."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, answer = part.partition("\n")
        while answer.startswith("> "):
            more, _, answer = answer.partition("\n")
            command += more.replace("> ", "\n", 1)
        yield command, answer


BLOCKS: Final = [list(steps(block)) for block in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))]


# `make run` reads it as well, and it may name a database with somebody's data.
without_settings = pytest.mark.skipif(
    (ROOT / ".env").exists(), reason="there is an .env in this clone, and the tour would work on what it names"
)
OWN: Final = "export APICTL_DATABASE_URL=postgresql://"
OTHERS: Final = [block for block in BLOCKS[3:] if not block[0][0].startswith(OWN)]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A newcomer's: no database is configured; the data go elsewhere than into the developer's own folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # Also if a virtual environment is active here: where apictl is found, its name is all that a newcomer is told.
    path = os.pathsep.join(part for part in os.get_exec_path() if not (Path(part) / "apictl").exists())
    return bare_environment(APICTL_HOME=str(tmp_path / "home"), APICTL_LISTEN_PORT=str(port), PS1=PROMPT, PATH=path)


def ask(shell: Terminal, command: str) -> str:
    """Type a command, and return what it printed before the next prompt."""
    shell.screen = ""
    shell.type(command + "\n")
    shell.wait_for(rf"(?s)\n.*{PROMPT}")
    # The first lines are what we typed, as long as it was.
    return shell.screen.partition("\n")[2].removesuffix(PROMPT)


@without_settings
def test_the_two_commands_and_the_tour(environment: dict[str, str]) -> None:
    (run, answer), *rest = BLOCKS[0]
    tour = BLOCKS[2]
    assert not rest
    assert run == "make run"
    assert len(tour) > 5
    port = environment["APICTL_LISTEN_PORT"]
    with terminal("run", environment=environment, cwd=ROOT, program="make") as server:
        server.wait_for("Application startup complete")
        shown = server.screen.replace(f":{port}", ":8000")
        assert masked(shown[shown.index("apictl is running") :])[: len(masked(answer))] == masked(answer)
        # Wide enough that nothing we type is broken into lines.
        wide = environment | {"COLUMNS": "1000", "TERM": "dumb"}
        with terminal("--norc", "--noprofile", "--noediting", environment=wide, cwd=ROOT, program="bash") as shell:
            shell.wait_for(PROMPT)
            for command, expected in tour:
                printed = ask(shell, command.replace(":8000", f":{port}"))
                assert masked(printed) == masked(expected), command
            shell.type("exit\n")
        server.type("\x03")
        # What it runs ends with 0; make itself ends of the signal, as every program may.
        assert server.end() in {0, -signal.SIGINT}
        assert "Traceback" not in server.screen
        assert "***" not in server.screen
    # Again: nothing is made anew, so no password is shown; and at once. Most of it is the import of the application,
    # which is the machine's own measure here: 2 s are 2.2 times that where these lines were written, and it took 1.3.
    ratios: list[float] = []
    while not ratios or (min(ratios) > 2.2 and len(ratios) < 4):
        began = time.monotonic()
        subprocess.run([ROOT / ".venv/bin/python", "-c", "import api.main"], cwd=ROOT, check=True)
        importing = time.monotonic() - began
        began = time.monotonic()
        with terminal("run", environment=environment, cwd=ROOT, program="make") as server:
            server.wait_for("Application startup complete")
            ratios.append((time.monotonic() - began) / importing)
            assert "superuser" not in server.screen
            server.type("\x03")
            assert server.end() in {0, -signal.SIGINT}
    assert min(ratios) <= 2.2, ratios


@pytest.mark.skipif(not THOROUGH, reason="CI's second run has it, on a PostgreSQL that is somebody's own")
def test_your_own_postgresql(environment: dict[str, str], empty_url: str) -> None:
    """The block as it is written, but for the address of the database, which is the reader's to know."""
    (_, _), *commands, (serve, _) = next(block for block in BLOCKS if block[0][0].startswith(OWN))
    assert serve.startswith("apictl serve")
    port = environment["APICTL_LISTEN_PORT"]
    wide = environment | {"COLUMNS": "1000", "TERM": "dumb", "PATH": f"{ROOT}/.venv/bin:{environment['PATH']}"}
    shells = [terminal("--norc", "--noprofile", "--noediting", environment=wide, program="bash") for _ in range(2)]
    with shells[0] as shell, shells[1] as other:
        for one in (shell, other):
            one.wait_for(PROMPT)
            ask(one, f"export APICTL_DATABASE_URL='{empty_url}'")
        commands += [("echo $APICTL_SECRET_KEY", "")]
        for command, _ in commands:
            printed = run(shell, command)
        ask(other, f"export APICTL_SECRET_KEY={printed.strip()}")
        shell.type(serve + "\n")
        shell.wait_for("Application startup complete")
        # What else is told, to somebody who has a server, about somebody whom the tour has made.
        run(other, "apictl create-user ada@example.com --no-password")
        for command, _ in (step for block in OTHERS for step in block):
            printed = run(other, command.replace(":8000", f":{port}"))
            assert '"code"' not in printed, f"{command}\n{printed}"
        shell.screen = ""
        shell.type("\x03")
        shell.wait_for(PROMPT)
        assert "Traceback" not in shell.screen
        assert ask(shell, "echo $?").strip() == "130"


def run(shell: Terminal, command: str) -> str:
    """Type a command, which succeeds, and return what it printed."""
    printed = ask(shell, command)
    assert ask(shell, "echo $?").strip() == "0", f"{command}\n{printed}"
    return printed


def test_the_other_command() -> None:
    assert [command for command, _ in BLOCKS[1]] == ["make test"]
