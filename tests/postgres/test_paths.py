"""Folders with names and owners that are out of the ordinary."""

import os
import stat
from pathlib import Path

import pytest

from api.core.errors import BadSettings
from api.postgres import folders
from api.postgres.layout import SOCKET_LIMIT
from tests.postgres.machine import IS_ROOT, count, embedded, layout, sql

ODD = ["a space and qu'o\"te", "com,ma", "per%cent%20 ünï→cødé", "$HOME `id` ; #?&=:@ back\\slash"]


def forget(home: Path) -> None:
    """Remove the short folder of the socket, where it is not inside of what the test removes anyway."""
    sockets = layout(home).sockets
    if not IS_ROOT and sockets.parent != home:
        sockets.rmdir()


@pytest.mark.parametrize("name", ODD)
def test_odd_names(home: Path, name: str) -> None:
    odd = home.parent / name / ".apictl"
    odd.parent.mkdir()
    home.rename(odd)
    with embedded(odd).acquire() as lease:
        assert count(lease.url) == 1
    forget(odd)


def test_a_new_world_under_an_odd_name(base: Path) -> None:
    home = base / "a b" / "qu'o\"te,%→" / ".apictl"
    with embedded(home).acquire(create=True) as lease:
        assert sql(lease.url, "SELECT 1") == 1
    forget(home)


def test_a_path_that_is_not_utf8(home: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(home) + b"\xff"))
    home.rename(odd)
    with embedded(odd).acquire() as lease:
        assert count(lease.url) == 1
    forget(odd)


@pytest.fixture
def long(home: Path) -> Path:
    folder = home.parent / ("x" * 120) / ("y" * 120)
    folder.mkdir(parents=True)
    home.rename(folder / "home")
    return folder / "home"


def test_a_long_path(long: Path) -> None:
    with embedded(long).acquire() as lease:
        assert count(lease.url) == 1
        sockets = layout(long).sockets
        assert len(os.fsencode(sockets / ".s.PGSQL.5432")) < SOCKET_LIMIT
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    forget(long)


@pytest.mark.parametrize("kind", ["open to others", "a link", "a file"])
def test_a_squatted_socket_folder_is_refused(long: Path, kind: str) -> None:
    sockets = layout(long).sockets
    sockets.parent.mkdir(parents=True, exist_ok=True, mode=0o755 if IS_ROOT else 0o700)
    target = long.parent / "target"
    target.mkdir(mode=0o700)
    if kind == "a link":
        sockets.symlink_to(target)
    elif kind == "a file":
        sockets.touch(mode=0o600)
    else:
        sockets.mkdir()
        sockets.chmod(0o777)
    with pytest.raises(BadSettings, match="not a folder of ours") as caught:
        embedded(long).acquire()
    assert str(sockets) in (caught.value.hint or "")
    assert list(target.iterdir()) == []
    if sockets.is_dir() and not sockets.is_symlink():
        sockets.rmdir()
    else:
        sockets.unlink()


def test_another_accounts_socket_folder_is_refused(base: Path) -> None:
    (base / "theirs").mkdir(mode=0o700)
    if not IS_ROOT:
        with pytest.raises(BadSettings, match="not a folder of ours"):
            folders.own_folder(Path("/root") if Path("/root").exists() else Path("/"))
        return
    os.chown(base / "theirs", 12345, 12345)
    with pytest.raises(BadSettings, match="not a folder of ours") as caught:
        folders.own_folder(base / "theirs")
    assert "user id 12345" in (caught.value.cause or "")


def test_the_home_may_be_a_link(home: Path) -> None:
    link = home.parent / "link"
    link.symlink_to(home)
    with embedded(home).acquire() as lease, embedded(link).acquire() as same:
        assert lease.url == same.url


@pytest.mark.parametrize("make", ["file", "line\nbreak"])
def test_what_cannot_be_a_home(base: Path, make: str) -> None:
    (base / "file").touch()
    with pytest.raises(BadSettings):
        embedded(base / make).acquire(create=True)


def test_a_home_that_everybody_can_write_in_is_refused(home: Path) -> None:
    home.chmod(0o777)
    with pytest.raises(BadSettings, match="Everybody can write"):
        embedded(home).acquire()


def test_a_home_under_a_file_or_a_read_only_folder_is_refused(base: Path) -> None:
    (base / "file").touch()
    with pytest.raises(BadSettings):
        embedded(base / "file" / "home").acquire(create=True)
    # Root may write anywhere, except where there is no writing at all.
    with pytest.raises(BadSettings, match="cannot hold a database") as caught:
        embedded(Path("/proc/apictl")).acquire(create=True)
    assert "APICTL_HOME" in (caught.value.hint or "")
