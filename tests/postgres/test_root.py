"""As root: the server runs as another account, and no folder that we did not make changes its mode."""

import os
import pwd
import shutil
import stat
import subprocess
import uuid
from pathlib import Path

import pytest

from api.core.errors import BadSettings
from api.postgres import account, binaries
from api.postgres.embedded import EmbeddedPostgres
from tests.postgres.conftest import ACCOUNT
from tests.postgres.machine import (
    FAST,
    IS_ROOT,
    add_row,
    count,
    embedded,
    keeper,
    layout,
    postmaster,
    processes,
    sql,
)

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="only root can change accounts")


def modes(*folders: Path) -> list[tuple[str, int, int, int]]:
    found = [(folder, folder.stat()) for folder in folders]
    return [(str(folder), stat.st_mode, stat.st_uid, stat.st_gid) for folder, stat in found]


def status(pid: int, key: str) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{key}:"))


@pytest.fixture
def closed(base: Path) -> Path:
    """A home inside folders that only root can enter, as /root is."""
    (base / "closed" / "project").mkdir(parents=True)
    (base / "closed" / "project").chmod(0o750)
    (base / "closed").chmod(0o700)
    return base / "closed" / "project" / "home"


def test_the_server_has_no_rights_of_roots(home: Path) -> None:
    uid = pwd.getpwnam(ACCOUNT).pw_uid
    with embedded(home).acquire():
        pid = postmaster(home)
        assert set(status(pid, "Uid")) == {str(uid)}
        assert "0" not in status(pid, "Gid")
        assert status(pid, "Groups") == []
        assert int(status(pid, "CapEff")[0], 16) == 0
        assert set(status(keeper(home), "Uid")) == {"0"}
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"APICTL_" not in environment, "our environment holds secrets"


def test_a_reachable_home_keeps_its_data_inside(base: Path, empty: Path) -> None:
    with embedded(empty).acquire(create=True):
        assert layout(empty).place == empty
        assert (empty / "postgres").stat().st_uid == pwd.getpwnam(ACCOUNT).pw_uid
        assert stat.S_IMODE(empty.stat().st_mode) == 0o710
    assert not (base / "state").exists()


def test_an_unreachable_home(base: Path, closed: Path) -> None:
    parents = (base, base / "closed", base / "closed" / "project", base.parent, Path("/"))
    before = modes(*parents)
    with embedded(closed).acquire(create=True) as lease:
        add_row(lease.url)
        assert layout(closed).place.parent == base / "state"
    assert modes(*parents) == before
    with embedded(closed).acquire() as lease:
        assert count(lease.url) == 1
    # The data stay where they are, whatever becomes of the modes.
    (base / "closed").chmod(0o755)
    with embedded(closed).acquire(create=True) as lease:
        assert not lease.created
        assert count(lease.url) == 1
    assert not processes(base)


def test_the_place_is_found_again_if_it_was_never_noted(closed: Path) -> None:
    """The keeper may be killed between the data's last step and the note."""
    with embedded(closed).acquire(create=True) as lease:
        add_row(lease.url)
    layout(closed).pointer.unlink()
    with embedded(closed).acquire(create=True) as lease:
        assert count(lease.url) == 1


def test_data_that_are_gone_are_not_replaced_by_an_empty_world(closed: Path) -> None:
    with embedded(closed).acquire(create=True):
        place = layout(closed).place
    shutil.rmtree(place)
    assert not embedded(closed).exists
    for create in (False, True):
        with pytest.raises(BadSettings, match="are gone") as caught:
            embedded(closed).acquire(create=create)
    assert str(layout(closed).pointer) in (caught.value.hint or "")


def test_data_of_a_removed_home_are_neither_adopted_nor_overwritten(closed: Path) -> None:
    with embedded(closed).acquire(create=True) as lease:
        add_row(lease.url)
        place = layout(closed).place
    shutil.rmtree(closed)
    with pytest.raises(BadSettings, match="of an earlier") as caught:
        embedded(closed).acquire(create=True)
    assert f"rm -r '{place}'" in (caught.value.hint or "")
    layout(closed).pointer.write_text(f"{place}\n")
    with embedded(closed).acquire() as lease:
        assert count(lease.url) == 1


def test_unreachable_programs_are_copied_once(
    base: Path, empty: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = base / "venv"
    site.mkdir(mode=0o700)
    package = programs.parents[1]
    shutil.copytree(package / "pginstall18", site / package.name / "pginstall18", copy_function=os.link)
    shutil.copytree(package.with_name(f"{package.name}.libs"), site / f"{package.name}.libs")
    found = binaries.Binaries(site / package.name / "pginstall18" / "bin", packaged=True)
    monkeypatch.setattr("api.postgres.embedded.find", lambda given: found)
    made = set()
    for create in (True, False):
        with embedded(empty).acquire(create=create) as lease:
            assert sql(lease.url, "SELECT '[1]'::jsonb ->> 0") == "1"
        (copy,) = (base / "state").glob("postgresql-18*/")
        made.add(copy.stat().st_ctime_ns)
    assert len(made) == 1, "the copy is used again"
    assert modes(site)[0][1] == stat.S_IFDIR | 0o700


def test_unreachable_programs_of_somebody_elses_are_not_copied(base: Path, home: Path) -> None:
    (base / "closed").mkdir(mode=0o700)
    for name in ("postgres", "initdb"):
        (base / "closed" / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 18.4'\n")
        (base / "closed" / name).chmod(0o755)
    with pytest.raises(BadSettings, match="cannot run") as caught:
        EmbeddedPostgres(home, binaries=base / "closed").acquire()
    assert "APICTL_POSTGRES_BIN" in (caught.value.hint or "")


def test_the_owner_of_the_data_runs_the_server(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuilt container gives the account another number; the volume keeps the old one."""
    monkeypatch.delenv("APICTL_POSTGRES_USER")
    for path in (layout(own_home).data, *layout(own_home).data.rglob("*"), layout(own_home).sockets):
        os.chown(path, 23456, -1)
    with embedded(own_home).acquire() as lease:
        assert count(lease.url) == 1
        assert set(status(postmaster(own_home), "Uid")) == {"23456"}


def test_roots_group_is_never_the_servers(own_home: Path) -> None:
    os.chown(layout(own_home).data, -1, 0)
    own_home.chmod(0o711)
    with embedded(own_home).acquire():
        assert "0" not in status(postmaster(own_home), "Gid")


def test_data_of_roots_are_refused(own_home: Path) -> None:
    os.chown(layout(own_home).data, 0, 0)
    with pytest.raises(BadSettings, match="belongs to root") as caught:
        embedded(own_home).acquire()
    assert "chown" in (caught.value.hint or "")


def test_anothers_home_is_refused(own_home: Path) -> None:
    os.chown(own_home, pwd.getpwnam(ACCOUNT).pw_uid, -1)
    with pytest.raises(BadSettings, match=f"belongs to {ACCOUNT}, and this is root"):
        embedded(own_home).acquire()


def test_a_state_folder_that_others_can_change_is_refused(base: Path, closed: Path) -> None:
    (base / "state").mkdir()
    (base / "state").chmod(0o777)
    with pytest.raises(BadSettings, match="can be changed by others"):
        embedded(closed).acquire(create=True)


@pytest.mark.parametrize(("name", "message"), [("no-such-account", "no account"), ("root", "not run as root")])
def test_accounts_that_do_not_do(empty: Path, name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APICTL_POSTGRES_USER", name)
    with pytest.raises(BadSettings, match=message):
        embedded(empty).acquire(create=True)
    assert not empty.exists()


def test_the_account_is_made_when_it_is_missing(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"apictl-t{uuid.uuid4().hex[:8]}"
    monkeypatch.delenv("APICTL_POSTGRES_USER")
    monkeypatch.setattr(account, "DEFAULT_NAME", name)
    try:
        with EmbeddedPostgres(empty, options=FAST).acquire(create=True):
            entry = pwd.getpwnam(name)
            assert set(status(postmaster(empty), "Uid")) == {str(entry.pw_uid)}
            assert entry.pw_shell.endswith("nologin")
            assert not Path(entry.pw_dir).exists()
    finally:
        subprocess.run(["userdel", name], check=True)


def test_without_a_way_to_make_an_account(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APICTL_POSTGRES_USER")
    monkeypatch.setattr(account, "DEFAULT_NAME", "apictl-none")
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(BadSettings, match="could not be made") as caught:
        embedded(empty).acquire(create=True)
    assert "APICTL_POSTGRES_USER" in (caught.value.hint or "")
