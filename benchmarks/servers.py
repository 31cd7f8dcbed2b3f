"""The applications that are compared, each in a process of its own, with a database of its own and the same users."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from benchmarks.load import CannotMeasure

ROOT: Final = Path(__file__).resolve().parent.parent
# An environment of its own: what people would pick instead has other dependencies than we have.
PYTHON: Final = ROOT / "benchmarks" / ".venv" / "bin" / "python"
START_SECONDS: Final = 30


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def environment(**more: str) -> dict[str, str]:
    """Return a process's environment: nothing of ours but what is said here."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT)} | more


@contextmanager
def running(
    line: list[str], port: int, *, ready: str, log: Path, **variables: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Have a server run for the length of a `with` block, from when it answers, and yield its URL and its process.

    Raises:
        CannotMeasure: It does not start.
    """
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as said:
        process = subprocess.Popen(line, cwd=ROOT, env=environment(**variables), stdout=said, stderr=said)  # noqa: S603
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(url + ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise CannotMeasure(f"{line[0]} does not start", cause=log.read_text(errors="replace")[-2000:])
            time.sleep(0.05)
        yield url, process
    finally:
        process.terminate()
        process.wait(timeout=30)


def answers(url: str) -> bool:
    """Tell whether somebody answers there."""
    try:
        return httpx2.get(url, timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


def asked(method: str, url: str, status: int = 200, **more: Any) -> Any:
    """Ask once, and return the answer's JSON.

    Raises:
        CannotMeasure: The status is another one.
    """
    answer = httpx2.request(method, url, timeout=30, **more)
    if answer.status_code != status:
        raise CannotMeasure(f"{method} {url} answered {answer.status_code}", cause=answer.text[:300])
    return answer.json()


def uvicorn(application: str, port: int) -> list[str]:
    """Return the command of uvicorn as people run it in production: one worker, no log of requests."""
    options = ["--host", "127.0.0.1", "--port", str(port), "--no-access-log", "--log-level", "warning"]
    return [str(PYTHON), "-m", "uvicorn", application, *options]


def apictl(*line: str) -> list[str]:
    """Return a command of ours."""
    return [str(Path(sys.executable).with_name("apictl")), *line]
