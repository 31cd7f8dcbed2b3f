"""The ordinary life of the embedded server: made, shared, left."""

import contextlib
import os
import stat
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from api.core.errors import BadSettings, Kind
from api.postgres import locks
from api.postgres.errors import EmbeddedPostgresFailed, NoDatabase
from tests.postgres.machine import (
    Holder,
    add_row,
    count,
    embedded,
    keeper,
    layout,
    parent,
    postmaster,
    processes,
    sql,
)


def test_rows_outlive_the_server(base: Path, empty: Path) -> None:
    server = embedded(empty)
    assert not server.exists
    with server.acquire(create=True) as lease:
        assert lease.created
        assert server.exists
        add_row(lease.url)
    assert not processes(base), "the last lease's end is the server's"
    with server.acquire() as lease:
        assert not lease.created
        assert count(lease.url) == 1


def test_without_create_nothing_is_made(empty: Path) -> None:
    with pytest.raises(NoDatabase) as caught:
        embedded(empty).acquire()
    assert caught.value.code == "no-database"
    assert caught.value.kind is Kind.MISCONFIGURED
    assert "apictl quickstart" in (caught.value.hint or "")
    assert list(empty.parent.iterdir()) == []


def test_without_create_an_existing_home_stays_as_it_is(empty: Path) -> None:
    empty.mkdir()
    with pytest.raises(NoDatabase):
        embedded(empty).acquire()
    assert list(empty.iterdir()) == []


def test_the_world_is_made_as_promised(empty: Path) -> None:
    with embedded(empty).acquire(create=True) as lease:
        assert sql(lease.url, "SHOW data_checksums") == "on"
        assert sql(lease.url, "SHOW server_encoding") == "UTF8"
        assert sql(lease.url, "SELECT datlocprovider::text || datlocale FROM pg_database LIMIT 1") == "bC.UTF-8"
        assert sql(lease.url, "SHOW password_encryption") == "scram-sha-256"
        assert sql(lease.url, "SHOW listen_addresses") == ""
        assert (layout(empty).data / "pg_hba.conf").read_text() == "local all all scram-sha-256\n"
        owner = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()"
        assert sql(lease.url, owner) == "apictl"
        assert sql(lease.url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        sql(lease.url, "CREATE DATABASE copy TEMPLATE apictl")
    for path in layout(empty).home.glob("postgres.*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(layout(empty).data.stat().st_mode) == 0o700
    assert empty.stat().st_mode & 0o007 == 0


def test_a_second_lease_joins(home: Path) -> None:
    with embedded(home).acquire() as first, embedded(home).acquire() as second:
        pid = postmaster(home)
        assert first.url == second.url
        assert not second.created
        second.close()
        second.close()
        assert postmaster(home) == pid
        assert count(first.url) == 1


def test_the_first_owner_leaves_while_another_works(base: Path, home: Path) -> None:
    with Holder(home) as first, Holder(home) as second:
        first.ready()
        second.ready()
        first.leave()
        assert count(second.url) == 1
        second.leave()
        assert not processes(base), "the last one to leave waits for the end"


def test_eight_at_once_share_one_new_server(base: Path, empty: Path) -> None:
    holders = [Holder(empty, create=True) for _ in range(8)]
    try:
        assert sum(bool(holder.ready().answer["created"]) for holder in holders) == 1
        assert len({holder.url for holder in holders}) == 1
        servers = {pid: parent(pid) for pid, command in processes(base).items() if "-D" in command}
        # A backend that has just begun, or just ended, is one of the server's children, or nobody's.
        assert len([pid for pid, above in servers.items() if above not in {*servers, None}]) == 1
        for holder in holders:
            assert sql(holder.url, "SELECT 1") == 1
        for holder in holders:
            holder.leave()
        assert not processes(base)
    finally:
        for holder in holders:
            holder.kill()


def test_two_who_leave_together_leave_nothing(base: Path, home: Path) -> None:
    for _ in range(5):
        with Holder(home) as first, Holder(home) as second:
            first.ready()
            second.ready()
            for holder in (first, second):
                holder.say_leave()
            for holder in (first, second):
                holder.process.wait()
            assert not processes(base), "one of them was the last, and waited"


def test_one_at_a_time_comes_or_goes(base: Path, home: Path) -> None:
    """Or one could come between the last one's decision to wait for the end and the keeper's to stop."""
    with Holder(home) as holder:
        holder.ready()
        with locks.opened(layout(home).lock("start")) as start:
            assert locks.take(start)
            with pytest.raises(EmbeddedPostgresFailed, match="not ready in time"):
                embedded(home).acquire(timeout=0.1)
            holder.say_leave()
            with pytest.raises(subprocess.TimeoutExpired):
                holder.process.wait(0.5)
        assert holder.process.wait() == 0
        assert not processes(base)


def test_a_forked_child_cannot_give_its_parents_share_back(home: Path) -> None:
    with embedded(home).acquire() as lease:
        child = os.fork()
        if child == 0:
            lease.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert count(lease.url) == 1
        pid = postmaster(home)
        with Holder(home) as other:
            assert "url" in other.ready().answer
            other.leave()
        assert postmaster(home) == pid, "our share still counts"


def test_the_keeper_is_no_child_of_ours_and_the_server_is_the_keepers(home: Path) -> None:
    with embedded(home).acquire():
        assert parent(keeper(home)) != os.getpid()
        assert os.getsid(keeper(home)) != os.getsid(0), "Ctrl-C does not reach it"
        # The suite may have children of its own here; none of them has ended and waits to be collected.
        with contextlib.suppress(ChildProcessError):
            assert os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def test_settings_by_hand_count_but_ours_win(own_home: Path) -> None:
    with (layout(own_home).data / "postgresql.conf").open("a") as conf:
        conf.write("work_mem = '7MB'\nlisten_addresses = '*'\nport = 1\n")
    with embedded(own_home, max_connections="17").acquire() as lease:
        assert sql(lease.url, "SHOW work_mem") == "7MB"
        assert sql(lease.url, "SHOW listen_addresses") == ""
        assert sql(lease.url, "SHOW max_connections") == "17"


def test_a_lost_password_file_is_replaced_and_no_row_is_lost(own_home: Path) -> None:
    old = layout(own_home).password.read_text()
    layout(own_home).password.unlink()
    with embedded(own_home).acquire() as lease:
        assert count(lease.url) == 1
        assert parse_qs(urlsplit(lease.url).query)["port"] == ["5432"]
        assert layout(own_home).password.read_text() != old
        layout(own_home).password.unlink()
        with pytest.raises(BadSettings, match="gone"):
            embedded(own_home).acquire()


def test_a_long_log_is_put_aside(home: Path) -> None:
    log = layout(home).log
    os.truncate(log, 9 * 1024 * 1024)
    with embedded(home).acquire():
        assert log.stat().st_size < 100_000
        assert log.with_name("postgres.log.1").stat().st_size == 9 * 1024 * 1024


def test_the_clock_runs_out_with_a_clear_error(home: Path) -> None:
    pid_file = layout(home).data / "postmaster.pid"
    with embedded(home).acquire() as lease:
        pid_file.rename(home / "hidden")
        with pytest.raises(EmbeddedPostgresFailed, match="not ready in time") as caught:
            embedded(home).acquire(timeout=0.2)
        (home / "hidden").rename(pid_file)
        assert count(lease.url) == 1
    assert caught.value.kind is Kind.UNAVAILABLE
    assert str(layout(home).log) in (caught.value.cause or "")
