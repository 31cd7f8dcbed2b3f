import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from api.postgres.account import credentials
from api.postgres.binaries import find
from tests.postgres import machine
from tests.support.measuring import STARTUP, VARIABLE

# Root's servers run as an account that every machine has, so that the tests leave none behind.
ACCOUNT = "nobody"


def make_base() -> Path:
    """Make a folder that the server's account can enter, which pytest's own are not."""
    base = Path(tempfile.mkdtemp(prefix="apictl-", dir="/tmp"))
    base.chmod(0o755)
    return base


@pytest.fixture(scope="session")
def lender() -> Iterator[Path]:
    """The folder of a home whose data exist, which tests borrow or copy: cheaper than one initdb per test."""
    base = make_base()
    yield base
    shutil.rmtree(base)


def made(lender: Path) -> Path:
    """Give the lender's home, making it if a test did not bring it back."""
    home = lender / "home"
    if not home.exists():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("APICTL_STATE_DIR", str(lender / "state"))
            with machine.embedded(home).acquire(create=True) as lease:
                machine.add_row(lease.url)
    return home


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The test's own folder; at the end, no process may be left that has to do with it."""
    base = make_base()
    monkeypatch.setenv("APICTL_STATE_DIR", str(base / "state"))
    monkeypatch.setenv("APICTL_POSTGRES_USER", ACCOUNT)
    if VARIABLE in os.environ:
        # Here processes from nothing are what is tested, the keeper above all.
        monkeypatch.setenv("PYTHONPATH", str(STARTUP))
    yield base
    try:
        machine.until(lambda: not machine.processes(base), "processes are left", 10)
    finally:
        for pid in machine.processes(base):
            machine.kill(pid)
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def empty(base: Path) -> Path:
    """A home that is not there yet."""
    return base / "home"


@pytest.fixture
def home(base: Path, lender: Path) -> Iterator[Path]:
    """A home whose data exist, with one row in the table `t`; the test may move it, and leaves the data as they are."""
    home = base / "home"
    made(lender).rename(home)
    fd = os.open(home, os.O_RDONLY)
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    yield home
    where = Path(f"/proc/self/fd/{fd}").readlink()
    machine.until(lambda: not machine.processes(base), "processes are left")
    os.fchmod(fd, mode)
    os.close(fd)
    where.rename(lender / "home")


@pytest.fixture
def own_home(base: Path, lender: Path) -> Path:
    """A copy of that home, for a test that changes the data, or kills what might."""
    subprocess.run(["cp", "-a", made(lender), base / "home"], check=True)
    return base / "home"


def as_server(command: Sequence[str | Path]) -> "subprocess.Popen[bytes]":
    """Start a process of the server's account, which is ours unless we are root."""
    drop = credentials(machine.account(ACCOUNT) if machine.IS_ROOT else None)
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd="/", **drop)


@pytest.fixture
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the server's account that is no server."""
    with as_server(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture
def programs() -> Path:
    """The folder of the package's programs."""
    return find(None).folder
