"""The commands that serve, as processes of their own on a free port."""

import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from tests.support.processes import APICTL, Process, Start, from_nothing


class Server:
    """A serving process: what it has printed, and where it listens."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self._log = log
        self.url = self.wait_for(r"http://127\.0\.0\.1:\d+")[0]

    @property
    def printed(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def wait_for(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """Wait until the pattern has been printed."""
        deadline = time.monotonic() + seconds
        while (found := re.search(pattern, self.printed)) is None:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.printed}"
            assert time.monotonic() < deadline, f"{pattern!r} did not come:\n{self.printed}"
            time.sleep(0.02)
        return found

    def get(self, path: str) -> tuple[int, str]:
        """Ask for a path; the first answer waits in the socket until the application is ready."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:  # noqa: S310 - our own server
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Tell it to stop; return its exit code, and everything that it printed."""
        self.process.send_signal(how)
        return self.process.wait(timeout=30), self.printed


@contextmanager
def serving(
    *arguments: str,
    environment: Mapping[str, str],
    cwd: Path | None = None,
    start: Start | None = None,
    port: int = 0,
) -> Iterator[Server]:
    """Run a command that serves, from when it says where until the block ends.

    The installed one from nothing, or as `start` starts it.
    """
    # A file, not a pipe: nobody reads it while the server is asked, and a full pipe would stop it.
    with NamedTemporaryFile() as log, Path(os.devnull).open("rb") as nothing:
        line = [*arguments, "--port", str(port)]
        files = (nothing.fileno(), log.fileno(), log.fileno())
        # No balancer has to notice that it stops.
        env = {"APICTL_DRAIN_TIMEOUT": "0", **environment, "PYTHONUNBUFFERED": "1"}
        if start is None:
            process = from_nothing([str(APICTL), *line], files, env=env, cwd=cwd, terminal=False)
        else:
            process = start(line, files, env=env, cwd=cwd, terminal=False)
        try:
            yield Server(process, Path(log.name))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()


def resident(pid: int, *, peak: bool = False) -> int:
    """Return the memory of a process, in KiB: now, or the most that it ever had."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    name = "VmHWM" if peak else "VmRSS"
    return int(re.search(rf"{name}:\s+(\d+)", status)[1])  # type: ignore[index]  # every process has the line
