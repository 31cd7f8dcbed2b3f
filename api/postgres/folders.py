"""The making of our folders, and the checking that a folder found there is really ours.

What root makes for the server's account lies in folders that root owns: nobody can swap one of them under us.
"""

import os
import stat
import tempfile
from pathlib import Path

from api.core.errors import BadSettings
from api.postgres.account import Account, can_write, owner_name
from api.postgres.layout import Layout, digest, state_folder


def settle(home: Path, account: Account | None) -> Layout:
    """Decide where a new data folder goes, and make the folders around it.

    Raises:
        BadSettings: A folder is not ours, or data of an earlier home are in the way.
        OSError: A folder cannot be made.
    """
    layout = Layout(home, home)
    if account is None:
        return layout
    if _reachable(layout.init, account):
        return layout
    layout = Layout(home, _state_place(home))
    if layout.exists:
        raise BadSettings(
            f"The data of an earlier {home} are still in {layout.place}",
            cause=f"{home} was removed, but root's data could not be inside it.",
            hint=f"to have them back: echo '{layout.place}' > '{layout.pointer}'; "
            f"to begin with an empty database: rm -r '{layout.place}'",
        )
    if not _reachable(layout.init, account):
        raise BadSettings(
            f"The account that PostgreSQL runs as cannot write in {layout.place}",
            cause=f"It is {owner_name(account.uid)}; {home} is closed to it as well.",
            hint="set APICTL_STATE_DIR to a folder whose parents everybody may enter",
        )
    return layout


def make_home(home: Path, account: Account | None) -> None:
    """Make the home if it is missing: 0700; root lets the server's group pass through, not look in.

    It appears with its final mode: another process may be trying whether the server's account can enter.

    Raises:
        OSError: It cannot be made.
    """
    if home.exists():
        return
    home.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
    try:
        if account is not None:
            os.chown(scratch, 0, account.gid)
            scratch.chmod(0o710)
        scratch.rename(home)
    except OSError:
        scratch.rmdir()
        if not home.is_dir():  # else another process was quicker
            raise


def make_sockets(layout: Layout, account: Account | None) -> Path:
    """Make the socket's folder, or make sure that the one there is ours alone.

    Raises:
        BadSettings: Somebody squats on it.
        OSError: It cannot be made.
    """
    sockets = layout.sockets
    if sockets.parent != layout.place:
        if account is None:
            own_folder(sockets.parent)
        else:
            _state_place(layout.home)
    own_folder(sockets, account)
    return sockets


def own_folder(path: Path, account: Account | None = None) -> None:
    """Make a folder of mode 0700 for the account, or check that it is exactly that.

    Raises:
        BadSettings: It is a link, a file, another account's, or open to others.
        OSError: It cannot be made.
    """
    uid = os.geteuid() if account is None else account.uid
    try:
        path.mkdir(mode=0o700)
        path.chmod(0o700)
    except FileExistsError:
        pass
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) & 0o077 == 0:
        if found.st_uid == uid:
            return
        if account is not None and found.st_uid == 0:
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
            return
    raise BadSettings(
        f"{path} is not a folder of ours",
        cause=f"It must be a real folder of {owner_name(uid)} with mode 0700; it belongs to "
        f"{owner_name(found.st_uid)} and has mode {stat.filemode(found.st_mode)}.",
        hint=f"see who made '{path}' and remove it, or set APICTL_HOME to another (short) path",
    )


def make_state_folder() -> Path:
    """Make root's folder, or make sure that nobody else can change what is in it.

    Raises:
        BadSettings: It is not root's alone.
        OSError: It cannot be made.
    """
    folder = state_folder()
    try:
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    except FileExistsError:
        pass
    found = folder.stat()
    if found.st_uid != 0 or found.st_mode & 0o022:
        raise BadSettings(
            f"{folder} can be changed by others than root",
            cause=f"It belongs to {owner_name(found.st_uid)}, mode {stat.filemode(found.st_mode)}.",
            hint=f"chown root '{folder}' && chmod 755 '{folder}', or set APICTL_STATE_DIR to another folder",
        )
    return folder


def _state_place(home: Path) -> Path:
    place = make_state_folder() / digest(home)
    try:
        place.mkdir()
        place.chmod(0o711)
    except FileExistsError:
        pass
    return place


def _reachable(folder: Path, account: Account) -> bool:
    """Make the folder for the account and try it; a mount that knows no owners is not reachable either."""
    try:
        own_folder(folder, account)
        if can_write(account, folder):
            return True
        folder.rmdir()
    except OSError:
        pass
    return False
