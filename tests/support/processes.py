"""The installed command as a process: from nothing, as a script starts it, or forked from one that is warm."""

import asyncio
import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, Protocol

APICTL: Final = Path(sys.executable).parent / "apictl"


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Process(Protocol):
    """What the tests do with a running command; `subprocess.Popen` does it too."""

    pid: int
    returncode: int | Any

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int, /) -> None: ...


class Start(Protocol):
    """A way to start a command, with these files for stdin, stdout and stderr."""

    def __call__(
        self, line: list[str], files: tuple[int, int, int], *, env: Mapping[str, str], cwd: Path | None, terminal: bool
    ) -> Process: ...


async def run(
    *arguments: str,
    environment: Mapping[str, str],
    stdin: str | bytes | None = None,
    cwd: Path | None = None,
    program: Path | str = APICTL,
) -> Finished:
    """Run the installed command from nothing, with pipes, as a script does."""
    process = await asyncio.create_subprocess_exec(
        str(program),
        *arguments,
        env=environment,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin.encode() if isinstance(stdin, str) else stdin)
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


def from_nothing(
    line: list[str], files: tuple[int, int, int], *, env: Mapping[str, str], cwd: Path | None, terminal: bool
) -> Process:
    """Start a program as a shell does; see `Start`."""
    stdin, stdout, stderr = files
    return subprocess.Popen(
        line,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=env,
        cwd=cwd,
        start_new_session=terminal,
        preexec_fn=own_terminal if terminal else None,  # noqa: PLW1509 - no other thread holds a lock that this needs
    )


def own_terminal() -> None:
    """Make stdin the controlling terminal, so that Ctrl-C typed there is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Child:
    """A command line that runs as a child of the warm process (see `warm`)."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers = connection.makefile()
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, if it has ended."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit code."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("apictl", timeout or 0)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._connection.close()
        return self.returncode

    def send_signal(self, sig: int, /) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)


class Apictl:
    """Runs command lines as children of a process that has everything imported."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def __call__(
        self, *arguments: str, environment: Mapping[str, str], stdin: str | bytes | None = None
    ) -> Finished:
        """Run a command line to its end, with pipes."""
        sent = stdin.encode() if isinstance(stdin, str) else stdin or b""
        return await asyncio.to_thread(self._run, arguments, environment, sent)

    def start(
        self, line: list[str], files: tuple[int, int, int], *, env: Mapping[str, str], cwd: Path | None, terminal: bool
    ) -> Process:
        """Start a command line; see `Start`."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(self._address)
        request = {"arguments": line, "environment": {**env}, "folder": str(cwd or Path.cwd()), "terminal": terminal}
        socket.send_fds(connection, [json.dumps(request).encode()], files)
        return Child(connection)

    def _run(self, arguments: tuple[str, ...], environment: Mapping[str, str], sent: bytes) -> Finished:
        with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
            given.write(sent)
            given.seek(0)
            files = (given.fileno(), out.fileno(), err.fileno())
            code = self.start([*arguments], files, env=environment, cwd=None, terminal=False).wait()
            out.seek(0)
            err.seek(0)
            return Finished(code, out.read().decode(), err.read().decode())


def bare_environment(**more: str) -> dict[str, str]:
    """Return an environment with nothing of ours but what is given."""
    ours = ("APICTL_", "DATABASE_URL", "PAGER", "LESS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    # Where an embedded server of root's keeps what its account could not reach.
    kept |= {name: os.environ[name] for name in ("APICTL_STATE_DIR",) if name in os.environ}
    return {"TERM": "xterm-256color"} | kept | more
