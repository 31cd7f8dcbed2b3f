"""A process with everything imported, which forks a child for each command line: real processes, without the wait.

Started as `python -m tests.support.warm SOCKET DATABASE_URL`. It listens on a Unix socket; a client sends a JSON line
(arguments, environment, folder, whether stdin is a terminal of its own) with three file descriptors, and gets the
child's pid and, later, its exit code.
"""

import array
import gc
import json
import os
import signal
import socket
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

# What commands import, once for all of them.
import cli
from api import main as _application  # noqa: F401
from api.migrations import service as _migrations  # noqa: F401
from cli import remote
from cli.client import bulk as _bulk  # noqa: F401
from cli.client import credentials as _credentials  # noqa: F401
from cli.client import migrations as _client  # noqa: F401
from cli.client import roles as _roles  # noqa: F401
from cli.commands import COMMANDS, load
from cli.main import main
from cli.start import run
from tests.support.postgres import compile_once
from tests.support.processes import own_terminal


def serve(address: str) -> None:
    """Answer clients, a child for each, until the parent ends us."""
    # Children are waited for by those who answer for them.
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address + ".new")
    listener.listen(64)
    # Only now: whoever sees the name can connect.
    Path(address + ".new").rename(address)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(connection)
            os._exit(0)
        connection.close()
        # Collect those that have ended; each has answered its client itself.
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break


def answer(connection: socket.socket) -> None:
    """Run one command line in a child of our own, and report its pid and its exit code."""
    message, ancillary, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(3 * 4))
    request: dict[str, Any] = json.loads(message)
    descriptors = array.array("i")
    descriptors.frombytes(ancillary[0][2])
    child = os.fork()
    if child == 0:
        connection.close()
        become(request, list(descriptors))
    connection.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Turn this process into `apictl` with these arguments; does not return."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.setsid()
    if request["terminal"]:
        own_terminal()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    # As when it is imported.
    cli.TERM = os.environ.get("TERM", "dumb")
    os.chdir(request["folder"])
    sys.argv = [str(Path(sys.executable).parent / "apictl"), *request["arguments"]]
    for name, number, mode, buffering in (("stdin", 0, "r", -1), ("stdout", 1, "w", -1), ("stderr", 2, "w", 1)):
        setattr(sys, name, os.fdopen(number, mode, buffering, encoding="utf-8", closefd=False))
    try:
        run()
    except SystemExit as ended:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(ended.code or 0))


def warm_up(url: str) -> None:
    """Run some commands here: what they compile, cache and specialise, every child then has from its start."""
    os.environ.update(APICTL_DATABASE_URL=url, APICTL_SECRET_KEY="0123456789abcdef" * 4)
    for line in (
        ["create-user", "ada@example.com", "--no-password", "--dry-run", "-o", "json"],
        ["create-token", "root@example.com", "--dry-run", "-o", "json"],
        ["list-users", "-o", "json"],
        ["list-tokens"],
        ["show-user", "nobody@example.com", "-o", "json"],
    ):
        for _ in range(3):
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                main(line)


if __name__ == "__main__":
    for command in COMMANDS:
        load(command)
    compile_once()
    # Nobody makes up their mind in these tests.
    remote.SHORTEST = 0.05
    warm_up(sys.argv[2])
    # What is here already is nobody's garbage: children need not copy it to look at it.
    gc.freeze()
    serve(sys.argv[1])
