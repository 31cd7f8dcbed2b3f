"""A pseudo-terminal for the installed command, as a person has it."""

import os
import pty
import re
import select
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import APICTL, Process, Start, from_nothing


class Terminal:
    """A running command, its screen so far, and its keyboard."""

    def __init__(self, process: Process, master: int) -> None:
        self.process = process
        self._master = master
        self.screen = ""

    def wait_for(self, pattern: str, seconds: float = 30) -> str:
        """Read until the pattern is on the screen."""
        deadline = time.monotonic() + seconds
        while (found := re.search(pattern, self.screen)) is None:
            if not self._read(deadline):
                raise AssertionError(f"{pattern!r} did not come; the screen:\n{self.screen}")
        return found[0]

    def type(self, text: str) -> None:
        """Type, as on a keyboard."""
        os.write(self._master, text.encode())

    def end(self, seconds: float = 30) -> int:
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        return self.process.wait(timeout=max(0.1, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            # Linux says EIO when the last holder of the other side is gone.
            return False
        self.screen += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


@contextmanager
def terminal(
    *arguments: str,
    environment: Mapping[str, str],
    cwd: Path | None = None,
    program: Path | str = APICTL,
    start: Start | None = None,
) -> Iterator[Terminal]:
    """Run a command on a terminal of its own: the installed one from nothing, or as `start` starts it."""
    master, slave = pty.openpty()
    env = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40", "PAGER": ""} | dict(environment)
    files = (slave, slave, slave)
    if start is None:
        process = from_nothing([str(program), *arguments], files, env=env, cwd=cwd, terminal=True)
    else:
        process = start([*arguments], files, env=env, cwd=cwd, terminal=True)
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(master)
