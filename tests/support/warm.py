"""A process with everything imported, which forks a child for each command line: real processes, without the wait.

Started as `python -m tests.support.warm SOCKET DATABASE_URL`. It listens on a Unix socket; a client sends a JSON line
(arguments, environment, folder, whether stdin is a terminal of its own) with three file descriptors, and gets the
child's pid and, later, its exit code.

What is imported here need not be imported a thousand times; that each command imports no more than it needs is tested
with processes that start from nothing.
"""

import array
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

import cli
from cli import remote
from cli.commands import COMMANDS, load
from cli.main import main
from cli.start import run
from tests.support.postgres import compile_once
from tests.support.processes import own_terminal

# What commands import when they run, once for all of them.
IMPORTED = (
    *("api.main", "api.core.hashes", "api.migrations.service", "api.migrations.script", "api.migrations.lint"),
    *("cli.client.bulk", "cli.client.credentials", "cli.client.migrations", "cli.client.roles", "cli.client.state"),
    *(
        "cli.running",
        "cli.serving",
        "cli.state_files",
        "cli.tables",
        "alembic.runtime.environment",
        "alembic.autogenerate",
    ),
    *("httpx2", "httpcore2", "anyio._backends._asyncio", "rich.console", "rich.table", "uvloop", "uvicorn"),
    *("uvicorn.lifespan.on", "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto", "yaml"),
)


def serve(address: str) -> None:
    """Answer clients, a child for each, until the parent ends us."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address + ".new")
    listener.listen(64)
    # Only now: whoever sees the name can connect.
    Path(address + ".new").rename(address)
    # Whoever waits in select() is woken by it when a child has ended.
    woken, wakes = socket.socketpair()
    woken.setblocking(False)
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    clients: dict[int, socket.socket] = {}
    while True:
        ready = select.select([listener, woken], [], [])[0]
        if woken in ready:
            woken.recv(4096)
        for child in [*clients]:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                with clients.pop(child) as client, suppress(OSError):
                    client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        if listener in ready:
            client = listener.accept()[0]
            begun = begin(client)
            if begun is None:
                client.close()
                continue
            clients[begun] = client
            # Who has gone away meanwhile has left a child that ends by itself.
            with suppress(OSError):
                client.sendall(f"{begun}\n".encode())


def begin(client: socket.socket) -> int | None:
    """Run a client's command line in a child of our own, and return its pid; None if it has sent none."""
    message, ancillary, _, _ = client.recvmsg(1 << 20, socket.CMSG_SPACE(3 * 4))
    if not ancillary:
        return None
    request: dict[str, Any] = json.loads(message)
    descriptors = array.array("i")
    descriptors.frombytes(ancillary[0][2])
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            become(request, list(descriptors))
        finally:
            # Never back into the loop, which is the parent's.
            traceback.print_exc()
            os._exit(1)
    for descriptor in descriptors:
        os.close(descriptor)
    return child


def become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Turn this process into `apictl` with these arguments; does not return."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    # These, and what belongs to other clients: Python's objects for it are not to be closed here any more.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
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
    for module in IMPORTED:
        import_module(module)
    compile_once()
    # Nobody makes up their mind in these tests.
    remote.SHORTEST = 0.05
    warm_up(sys.argv[2])
    # What is here already is nobody's garbage: children need not copy it to look at it.
    gc.freeze()
    serve(sys.argv[1])
