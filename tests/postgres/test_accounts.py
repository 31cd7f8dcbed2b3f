"""Two accounts on one machine: what is one's own is closed to the other, and never half-works."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from api.postgres.account import credentials
from tests.postgres.conftest import ACCOUNT
from tests.postgres.machine import IS_ROOT, PORT_NAME, PROJECT, Holder, account, embedded, layout, processes, sql
from tests.support.cases import THOROUGH

root = pytest.mark.skipif(not IS_ROOT, reason="only root can act as another account")

CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    try:
        client.connect(sys.argv[1])
    except PermissionError:
        print("refused")
"""


def python_for_everybody() -> str:
    """Find an interpreter of this version that other accounts can run; a virtual environment in /root is not one."""
    version = f"python3.{sys.version_info.minor}"
    for candidate in (sys.executable, shutil.which(version, path="/usr/bin:/usr/local/bin")):
        with suppress(PermissionError):
            if candidate and as_other([candidate, "-c", "import asyncpg"]).returncode == 0:
                return candidate
    pytest.skip(f"no {version} on this machine that another account can run")


def as_other(command: list[str], name: str = ACCOUNT, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        cwd=PROJECT,
        env=environment(),
        **credentials(account(name)),
    )


def environment() -> dict[str, str]:
    site = Path(asyncpg.__file__).parents[1]
    return {"PATH": os.defpath, "PYTHONPATH": f"{PROJECT}:{site}", "PYTHONDONTWRITEBYTECODE": "1"}


# What the account decides: who owns what, who is whose process, which folder the socket is in.
NATIVE = (
    "test_lifecycle.py::test_rows_outlive_the_server",
    "test_crashes.py::test_the_owner",
    "test_crashes.py::test_the_postmaster",
    "test_crashes.py::test_the_keeper",
    "test_strangers.py::test_a_strangers_pid_in_the_pid_file",
    "test_strangers.py::test_a_server_started_by_hand_is_refused_and_left_alone",
    "test_paths.py::test_a_new_world_under_an_odd_name",
    "test_paths.py::test_a_long_path",
    "test_paths.py::test_a_squatted_socket_folder_is_refused",
    "test_paths.py::test_another_accounts_socket_folder_is_refused",
)


@root
@pytest.mark.skipif(not THOROUGH, reason="a suite in the suite: CI's second run has it")
def test_this_suite_as_an_unprivileged_account() -> None:
    done = as_other(
        [
            *(python_for_everybody(), "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"),
            f"--confcutdir={PROJECT / 'tests' / 'postgres'}",
            *(f"tests/postgres/{name}" for name in NATIVE),
        ]
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
    with suppress(OSError):  # not empty: somebody uses it
        Path(f"/tmp/apictl-{account(ACCOUNT).uid}").rmdir()  # noqa: S108 - the name is the code's, not ours


@root
def test_another_account_does_not_get_to_the_socket(home: Path) -> None:
    with embedded(home).acquire():
        address = str(layout(home).sockets / PORT_NAME)
        for name in ("daemon", "bin"):
            assert as_other(["/usr/bin/python3", "-c", CONNECT, address], name).stdout.strip() == "refused"


@root
def test_roots_home_is_refused_to_another_account(home: Path) -> None:
    home.chmod(0o755)
    holder = Holder(home, python=python_for_everybody(), env=environment(), account=account("daemon"))
    with holder:
        answer = holder.ready().answer
    assert answer["code"] == "bad-settings"
    assert "belongs to root, and this is daemon" in answer["text"]


@root
def test_a_home_behind_anothers_closed_folder_is_refused(base: Path, home: Path) -> None:
    (base / "closed").mkdir(mode=0o700)
    home.rename(base / "closed" / "home")
    holder = Holder(
        base / "closed" / "home",
        create=True,
        python=python_for_everybody(),
        env=environment(),
        account=account("daemon"),
    )
    with holder:
        answer = holder.ready().answer
    assert answer["code"] == "bad-settings"
    assert f"{base / 'closed'} belongs to root" in answer["text"]


def test_the_password_is_asked_for(home: Path) -> None:
    with embedded(home).acquire() as lease:
        parts = urlsplit(lease.url)
        for netloc in ("apictl:wrong@", "apictl@", "postgres:@", f"postgres:{parts.password}@"):
            with pytest.raises(asyncpg.PostgresError):
                sql(urlunsplit(parts._replace(netloc=netloc)), "SELECT 1")


def test_no_port_is_open(base: Path, home: Path) -> None:
    with embedded(home).acquire():
        ours = {entry for pid in processes(base) for entry in sockets(pid)}
        tables = [Path("/proc/net") / name for name in ("tcp", "tcp6", "udp", "udp6")]
        rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
        assert not [row for row in rows if row[9] in ours]


def sockets(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)  # noqa: PTH115 - it is no path
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target.removeprefix("socket:[").rstrip("]"))
    return found
