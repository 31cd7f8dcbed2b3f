"""Where everything of one embedded PostgreSQL is; `folders` makes what is not there yet."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from api.core.errors import BadSettings
from api.postgres.account import owner_name

PORT = 5432
"""Only the name of the socket: nothing listens on TCP."""

SOCKET_LIMIT = 100
"""Bytes of a socket's path; the kernels take 103 (macOS) to 107."""


@dataclass(frozen=True)
class Layout:
    """The paths of one embedded PostgreSQL.

    Attributes:
        home: The folder that the user knows (`./.apictl`): locks, password, log.
        place: The folder that PostgreSQL's own folders are in: `home`, or for root, where the server's
            account cannot reach that, one under `/var/lib/apictl`.
    """

    home: Path
    place: Path

    @property
    def data(self) -> Path:
        """The data folder; it gets this name when it is complete, never before."""
        return self.place / "postgres"

    @property
    def init(self) -> Path:
        """The data folder while initdb works on it."""
        return self.place / "postgres.init"

    @property
    def cluster_lock(self) -> Path:
        """Held by every process of the cluster; beside the data, so that a copied `home` shares it."""
        return self.place / "postgres.cluster.lock"

    @property
    def password(self) -> Path:
        """The password of the role `apictl`."""
        return self.home / "postgres.password"

    @property
    def log(self) -> Path:
        """What the server and its keeper say."""
        return self.home / "postgres.log"

    @property
    def pointer(self) -> Path:
        """Where `place` is written down, when it is not `home`: modes may change, the data must be found."""
        return self.home / "postgres.place"

    @property
    def exists(self) -> bool:
        """Whether there is a complete data folder."""
        return (self.data / "PG_VERSION").is_file()

    @property
    def sockets(self) -> Path:
        """The folder of the socket, the same for every process: a short one where this is too long or odd."""
        inside = self.place / "postgres.run"
        if _suits_a_socket(inside):
            return inside
        if os.geteuid() == 0:
            return state_folder() / digest(self.home) / "postgres.run"
        # Not TMPDIR: two processes of one user may disagree about it.
        return Path(f"/tmp/apictl-{os.geteuid()}") / digest(self.home)  # noqa: S108 - own_folder checks it

    def lock(self, name: str) -> Path:
        """Path of the lock file with this name."""
        return self.home / f"postgres.{name}"


def locate(home: Path) -> Layout:
    """Find the layout of a home that may or may not be there, touching nothing.

    Raises:
        BadSettings: The home is somebody else's, or cannot be one.
    """
    home = Path(os.path.realpath(home))
    _check_home(home)
    layout = Layout(home, home)
    try:
        return Layout(home, Path(layout.pointer.read_text().strip()))
    except FileNotFoundError:
        pass
    # Root's keeper may have been killed between the data's last step and the note of their place.
    if os.geteuid() == 0 and layout.password.exists() and not layout.exists:
        elsewhere = Layout(home, state_folder() / digest(home))
        return elsewhere if elsewhere.exists else layout
    return layout


def state_folder() -> Path:
    """Root's folder for what does not fit into a home."""
    return Path(os.environ.get("APICTL_STATE_DIR") or "/var/lib/apictl")


def digest(home: Path) -> str:
    """Name a home in folders that many homes share."""
    return hashlib.sha256(os.fsencode(home)).hexdigest()[:16]


def _suits_a_socket(folder: Path) -> bool:
    """Whether every client can name it: a comma separates hosts, and URLs are UTF-8."""
    try:
        path = f"{folder}/.s.PGSQL.{PORT}".encode()
    except UnicodeEncodeError:
        return False
    return len(path) < SOCKET_LIMIT and b"," not in path


def _check_home(home: Path) -> None:
    if "\n" in str(home):
        raise BadSettings(f"{str(home)!r} cannot hold a database", cause="A line break is in the path.")
    try:
        found = home.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        door = next(folder for folder in home.parents if os.access(folder.parent, os.X_OK) and folder.exists())
        raise BadSettings(
            f"{home} cannot be read by {owner_name(os.geteuid())}",
            cause=f"{error.strerror}: {door} belongs to {owner_name(door.stat().st_uid)}.",
            hint="run this as that account, or set APICTL_HOME to a folder of your own",
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise BadSettings(f"{home} is not a folder", hint="set APICTL_HOME to a folder")
    if found.st_uid != os.geteuid():
        owner = owner_name(found.st_uid)
        raise BadSettings(
            f"{home} belongs to {owner}, and this is {owner_name(os.geteuid())}",
            cause="One account owns an embedded database: its files, its password, its locks.",
            hint=f"run this as {owner} (sudo -u {owner} …), or set APICTL_HOME to a folder of your own",
        )
    if found.st_mode & stat.S_IWOTH:
        raise BadSettings(
            f"Everybody can write in {home}",
            cause="Another account could put its own data or password there.",
            hint=f"chmod o-w '{home}'",
        )
