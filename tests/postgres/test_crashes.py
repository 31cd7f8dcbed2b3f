"""Every process killed with -9, one after the other: what was acknowledged stays."""

import random
import time
from contextlib import suppress
from pathlib import Path

import pytest

from api.postgres.errors import EmbeddedPostgresFailed
from tests.postgres.machine import (
    Holder,
    add_row,
    alive,
    count,
    embedded,
    keeper,
    kill,
    layout,
    postmaster,
    processes,
    until,
    works,
)
from tests.support.cases import THOROUGH


def test_the_owner(base: Path, own_home: Path) -> None:
    with Holder(own_home) as owner:
        add_row(owner.ready().url)
        owner.kill()
        until(lambda: not processes(base), "the server is still there", 5)
        assert not (layout(own_home).data / "postmaster.pid").exists(), "it was a clean shutdown"
    with embedded(own_home).acquire() as lease:
        assert count(lease.url) == 2


def test_one_owner_of_two(home: Path) -> None:
    with Holder(home) as owner, embedded(home).acquire() as lease:
        owner.ready()
        owner.kill()
        assert count(lease.url) == 1


def test_the_postmaster(own_home: Path) -> None:
    with embedded(own_home).acquire() as lease:
        for rows in (2, 3):
            add_row(lease.url)
            pid = postmaster(own_home)
            kill(pid)
            until(lambda: works(lease.url), "the keeper did not start it again")
            assert postmaster(own_home) != pid
            assert count(lease.url) == rows


def test_a_joiner_waits_for_a_restart(home: Path) -> None:
    with embedded(home).acquire():
        kill(postmaster(home))
        with Holder(home) as other:
            until(lambda: "url" in other.ready().answer, "no lease")
            assert works(other.url)


def test_the_keeper(base: Path, own_home: Path) -> None:
    with embedded(own_home).acquire() as lease:
        add_row(lease.url)
        pid, old = keeper(own_home), postmaster(own_home)
        kill(pid)
        until(lambda: not alive(pid), "it did not die")
        with embedded(own_home).acquire() as again:
            until(lambda: not alive(old), "the old server did not end")
            assert keeper(own_home) != pid
            assert count(again.url) == 2
            assert again.url == lease.url
            again.close()
            assert works(lease.url), "the old lease is a share in the new server"
    assert not processes(base)


def test_the_keeper_just_before_the_last_one_leaves(base: Path, home: Path) -> None:
    lease = embedded(home).acquire()
    pid = keeper(home)
    kill(pid)
    until(lambda: not alive(pid), "it did not die")
    lease.close()
    until(lambda: not processes(base), "the server is still there", 1)


def test_the_watcher(base: Path, home: Path) -> None:
    """The keeper's child that sleeps on the lock: without it nobody would notice the last one's leaving."""
    with embedded(home).acquire() as lease:
        pid, server = keeper(home), postmaster(home)

        def watchers() -> set[int]:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return {int(child) for child in children} - {server}

        until(watchers, "there is no watcher yet")
        (watcher,) = watchers()
        kill(watcher)
        until(lambda: watchers() and watcher not in watchers(), "there is no new watcher")
        assert postmaster(home) == server
        assert works(lease.url)
    assert not processes(base)


@pytest.mark.skipif(not THOROUGH, reason="three seconds of starting in vain: CI's second run has them")
def test_a_server_that_cannot_start_again_is_given_up(own_home: Path) -> None:
    with embedded(own_home).acquire() as lease:
        watched = keeper(own_home)
        with (layout(own_home).data / "postgresql.conf").open("a") as conf:
            conf.write("no_such_setting = 1\n")
        kill(postmaster(own_home))
        until(lambda: not alive(watched), "the keeper tries for ever", 15)
        with pytest.raises(EmbeddedPostgresFailed, match="ended as soon as it was started") as caught:
            embedded(own_home).acquire()
        assert "no_such_setting" in (caught.value.cause or "")
        assert not works(lease.url)


@pytest.mark.parametrize("victim", ["keeper", "everything"])
def test_initdb_at_any_moment(base: Path, empty: Path, victim: str) -> None:
    chance = random.Random(victim)  # noqa: S311 - it picks moments
    for _ in range(3):
        with Holder(empty, create=True) as owner:
            until(lambda: processes(base) or owner.process.poll() is not None, "nothing started")
            until(lambda: (empty / "postgres.init").exists() or (empty / "postgres").exists(), "no initdb")
            time.sleep(chance.uniform(0, 0.4))  # the moment is what is varied; nothing waits for it
            for pid, command in processes(base).items():
                if "api.postgres.keeper" in command or (victim == "everything" and pid != owner.process.pid):
                    with suppress(ProcessLookupError):
                        kill(pid)
            owner.kill()
        until(lambda: not processes(base), "something survived")
    with embedded(empty).acquire(create=True) as lease:
        assert works(lease.url)
        add_row(lease.url)
    assert not (empty / "postgres.init").exists()


@pytest.mark.skipif(not THOROUGH, reason="a power failure, after all the single ones: CI's second run has it")
def test_everything_at_once_as_at_a_power_failure(base: Path, own_home: Path) -> None:
    for rows in (2, 3, 4):
        with Holder(own_home) as owner:
            add_row(owner.ready().url)
            for pid in processes(base):
                with suppress(ProcessLookupError):
                    kill(pid)
            until(lambda: not processes(base), "something survived")
        with embedded(own_home).acquire() as lease:
            assert count(lease.url) == rows
