"""What the tests of the embedded PostgreSQL do to the machine: processes, signals, connections."""

import asyncio
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import asyncpg

from api.postgres.account import Account, credentials
from api.postgres.embedded import EmbeddedPostgres
from api.postgres.layout import Layout, locate

FAST = {"fsync": "off"}
PORT_NAME = ".s.PGSQL.5432"
PROJECT = Path(__file__).resolve().parents[2]
IS_ROOT = os.geteuid() == 0

HOLDER = """
import json, pathlib, sys
from api.core.errors import ApictlError
from api.postgres.account import Account, credentials
from api.postgres.embedded import EmbeddedPostgres
home, create, options = json.loads(sys.argv[1])
try:
    lease = EmbeddedPostgres(pathlib.Path(home), options=options).acquire(create=create)
except ApictlError as error:
    print(json.dumps({"code": error.code, "text": f"{error} {error.cause} {error.hint}"}), flush=True)
    sys.exit(1)
print(json.dumps({"url": lease.url, "created": lease.created}), flush=True)
sys.stdin.read()
lease.close()
"""


class Holder:
    """Another process that takes a lease, and keeps it until it is told to leave or is killed."""

    def __init__(
        self,
        home: Path,
        *,
        create: bool = False,
        options: Mapping[str, str] = FAST,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        account: Account | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [python, "-c", HOLDER, json.dumps([str(home), create, dict(options)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
            env=env,
            **credentials(account),
        )
        self.answer: dict[str, str] = {}

    def ready(self) -> Self:
        """Wait until it has its lease."""
        assert self.process.stdout is not None
        self.answer = json.loads(self.process.stdout.readline() or "{}")
        return self

    @property
    def url(self) -> str:
        return self.answer["url"]

    def leave(self) -> None:
        """Let it give its lease back and end."""
        self.say_leave()
        self.process.wait()

    def say_leave(self) -> None:
        """Tell it to leave, without waiting."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def kill(self) -> None:
        """Kill it as the kernel's out-of-memory killer would."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def account(name: str) -> Account:
    entry = pwd.getpwnam(name)
    return Account(entry.pw_uid, entry.pw_gid)


def embedded(home: Path, **options: str) -> EmbeddedPostgres:
    return EmbeddedPostgres(home, options={**FAST, **options})


def until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s: {what}"
        time.sleep(0.01)


def sql(url: str, *statements: str) -> object:
    """Run statements; the value of the last one's first column."""

    async def run() -> object:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            value: object = None
            for statement in statements:
                value = await connection.fetchval(statement)
            return value
        finally:
            await connection.close(timeout=5)

    return asyncio.run(run())


def count(url: str) -> object:
    return sql(url, "SELECT count(*) FROM t")


def add_row(url: str) -> None:
    sql(url, "CREATE TABLE IF NOT EXISTS t (i int)", "INSERT INTO t VALUES (1)")


def works(url: str) -> bool:
    try:
        return sql(url, "SELECT 1") == 1
    except (OSError, asyncpg.PostgresError):
        return False


def layout(home: Path) -> Layout:
    return locate(home)


def postmaster(home: Path) -> int:
    """The server's process id, by its file: good enough for a server that is known to run."""
    return int((layout(home).data / "postmaster.pid").read_text().splitlines()[0])


def parent(pid: int) -> int | None:
    """The process that started it; None when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def keeper(home: Path) -> int:
    above = parent(postmaster(home))
    assert above is not None
    return above


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def processes(base: Path) -> dict[int, str]:
    """Every process that has this folder in its command line, or works in it: servers, backends, keepers."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = os.readlink(entry / "cwd")  # noqa: PTH115 - " (deleted)" is part of what is read
        except OSError:
            continue
        inside = where == str(base) or where.startswith(f"{base}/")
        if command and (f"{base}/" in command or inside):
            found[int(entry.name)] = command
    return found


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
