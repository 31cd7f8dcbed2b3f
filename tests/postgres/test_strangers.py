"""Processes that are not ours: no process id is ever believed, and nobody but our own child is ever signalled."""

import os
import subprocess
from pathlib import Path

import pytest

from api.core.errors import BadSettings
from api.postgres import pidfile
from tests.postgres.conftest import as_server
from tests.postgres.machine import PORT_NAME, alive, count, embedded, layout, postmaster, processes, until


def pid_file(home: Path, pid: int) -> str:
    data, sockets = layout(home).data, layout(home).sockets
    return f"{pid}\n{data}\n1700000000\n5432\n{sockets}\n\n  1234567      1\nready   \n"


def test_a_strangers_pid_in_the_pid_file(home: Path, stranger: "subprocess.Popen[bytes]") -> None:
    (layout(home).data / "postmaster.pid").write_text(pid_file(home, stranger.pid))
    with embedded(home).acquire() as lease:
        assert count(lease.url) == 1
        assert postmaster(home) != stranger.pid
    assert alive(stranger.pid)


@pytest.mark.parametrize("text", ["", "garbage\n", "-1\n", "\0\0\0\0"])
def test_garbage_in_the_pid_file(home: Path, text: str) -> None:
    (layout(home).data / "postmaster.pid").write_text(text)
    with embedded(home).acquire() as lease:
        assert count(lease.url) == 1


def test_a_truncated_pid_file_of_a_stranger(home: Path, stranger: "subprocess.Popen[bytes]") -> None:
    (layout(home).data / "postmaster.pid").write_text(str(stranger.pid))
    with embedded(home).acquire() as lease:
        assert count(lease.url) == 1
    assert alive(stranger.pid)


def test_a_link_in_place_of_the_pid_file_is_not_followed(home: Path) -> None:
    target = home.parent / "precious"
    target.write_text("12\n")
    (layout(home).data / "postmaster.pid").symlink_to(target)
    assert pidfile.read(layout(home).data) == pidfile.PidFile(None, "")
    with embedded(home).acquire() as lease:
        assert count(lease.url) == 1
    assert target.read_text() == "12\n"


def test_a_pipe_in_place_of_the_pid_file_is_not_waited_for(home: Path) -> None:
    os.mkfifo(layout(home).data / "postmaster.pid")
    with embedded(home).acquire(timeout=10) as lease:
        assert count(lease.url) == 1


def test_a_strangers_pid_in_the_sockets_lock_file(home: Path, stranger: "subprocess.Popen[bytes]") -> None:
    with embedded(home).acquire():
        pass
    sockets = layout(home).sockets
    (sockets / PORT_NAME).touch()
    (sockets / f"{PORT_NAME}.lock").write_text(pid_file(home, stranger.pid))
    with embedded(home).acquire() as lease:
        assert count(lease.url) == 1
    assert alive(stranger.pid)


def test_a_server_started_by_hand_is_refused_and_left_alone(base: Path, home: Path, programs: Path) -> None:
    data = layout(home).data
    # As somebody would, with the log and the socket where the account may write.
    command = [str(programs / "postgres"), "-D", str(data), "-c", "listen_addresses=", "-k", str(data), "-F"]
    with as_server(command) as by_hand:
        try:
            until(lambda: (data / PORT_NAME).exists() and postmaster(home) == by_hand.pid, "not started")
            until(lambda: "ready" in (data / "postmaster.pid").read_text(), "not ready")
            for _ in range(2):
                before = (data / "postmaster.pid").read_text()
                with pytest.raises(BadSettings, match="did not start") as caught:
                    embedded(home).acquire()
                assert str(by_hand.pid) in (caught.value.cause or "")
                assert alive(by_hand.pid)
                assert (data / "postmaster.pid").read_text() == before
            # Even when its file is gone or lies.
            (data / "postmaster.pid").write_text("1\n")
            with pytest.raises(BadSettings, match="did not start"):
                embedded(home).acquire()
        finally:
            by_hand.terminate()
            by_hand.wait()
            (data / "postmaster.pid").unlink(missing_ok=True)
    until(lambda: not processes(base), "its keeper is left")
    with embedded(home).acquire() as lease:
        assert count(lease.url) == 1
