"""Who PostgreSQL runs as (ourselves, except for root, whom it refuses), and with which environment."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypedDict

from api.core.errors import BadSettings

if sys.platform != "win32":
    import pwd

DEFAULT_NAME = "apictl-postgres"

# Nothing else of our environment: it holds secrets, and PG* variables would change what the programs do.
KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")


class Credentials(TypedDict, total=False):
    """What `subprocess` takes to start a child as somebody else."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """An unprivileged account that root hands the server to."""

    uid: int
    gid: int

    @classmethod
    def of(cls, uid: int, gid: int) -> Self:
        """Pair the ids, never with root's group: its members read and write much of a system."""
        return cls(uid, gid or uid)


def credentials(account: Account | None) -> Credentials:
    """Give the arguments that drop user, group and every supplementary group; none to stay who we are."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def environment() -> dict[str, str]:
    """Give PostgreSQL's programs an environment that is the same on every machine."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def server_account(data: Path) -> Account | None:
    """Say who runs the server on this data folder; None stands for ourselves.

    Data that exist decide by their owner: a rebuilt container may give the same name another number, and
    the rows on its volume must still open.

    Raises:
        BadSettings: The data belong to root, or no account can be had.
    """
    if os.geteuid() != 0:
        return None
    if not data.exists():
        return _named_account()
    owner = data.stat()
    if owner.st_uid == 0:
        raise BadSettings(
            f"The data folder {data} belongs to root",
            cause="PostgreSQL does not run as root.",
            hint=f"give it to the server's account: chown -R {DEFAULT_NAME}: '{data}'",
        )
    return Account.of(owner.st_uid, owner.st_gid)


def can_write(account: Account, folder: Path) -> bool:
    """Try, as that account, to make a file in the folder by its full path: modes alone do not tell."""
    script = 'umask 077 && : > "$1/.probe" && rm "$1/.probe"'
    return _succeeds(account, ["/bin/sh", "-c", script, "sh", str(folder)])


def can_run(account: Account | None, program: Path) -> bool:
    """Try, as that account, to start the program far enough to say its version."""
    return _succeeds(account, [str(program), "--version"])


def owner_name(uid: int) -> str:
    """Name an account as people know it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def _succeeds(account: Account | None, command: list[str]) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - our own words, no shell
            command, check=False, capture_output=True, cwd="/", env=environment(), **credentials(account)
        )
    except OSError:
        return False
    return done.returncode == 0


def _named_account() -> Account:
    chosen = os.environ.get("APICTL_POSTGRES_USER")
    account = _find(chosen or DEFAULT_NAME)
    if account is None and not chosen:
        account = _create(DEFAULT_NAME)
    if account is None:
        raise BadSettings(
            f"There is no account {chosen!r} for PostgreSQL to run as",
            cause="APICTL_POSTGRES_USER names it.",
            hint="name an existing unprivileged account, or unset APICTL_POSTGRES_USER",
        )
    if account.uid == 0:
        raise BadSettings(
            "PostgreSQL does not run as root",
            cause=f"APICTL_POSTGRES_USER is {chosen!r}.",
            hint="name an unprivileged account, or unset APICTL_POSTGRES_USER",
        )
    return account


def _find(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account.of(entry.pw_uid, entry.pw_gid)


def _create(name: str) -> Account:
    """Make a system account without a shell, a password or a home."""
    # Root's own tools, which a PATH such as cron's or a service's leaves out.
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    useradd, adduser = shutil.which("useradd", path=places), shutil.which("adduser", path=places)
    commands: list[list[str]] = []
    if useradd:
        nowhere = ["--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
        commands = [[useradd, "--system", "--user-group", *nowhere, name]]
    elif adduser and (addgroup := shutil.which("addgroup", path=places)):  # BusyBox (Alpine)
        nowhere = ["-D", "-H", "-h", "/nonexistent", "-s", "/sbin/nologin"]
        commands = [[addgroup, "-S", name], [adduser, "-S", *nowhere, "-G", name, name]]
    said = "Neither useradd nor BusyBox's adduser is here."
    for command in commands:
        done = subprocess.run(  # noqa: S603 - our own words, no shell
            command, check=False, capture_output=True, text=True, errors="replace"
        )
        said = done.stderr.strip()
    # Another process may have been quicker: what counts is that the account is there now.
    if account := _find(name):
        return account
    raise BadSettings(
        f"PostgreSQL does not run as root, and the account {name!r} could not be made for it",
        cause=said,
        hint="create it by hand, or name an existing one in APICTL_POSTGRES_USER",
    )
