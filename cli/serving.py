"""How the application is served: the socket, the processes, and what signals do to them."""

import errno
import gc
import os
from typing import TYPE_CHECKING, Any

from api.core.errors import ApictlError, BadSettings, Kind
from cli.call import Call
from cli.signals import HANDLERS

if TYPE_CHECKING:
    import socket
    from types import FrameType

    from fastapi import FastAPI
    from uvicorn import Config

APPLICATION = "cli.serving:application"
# Seconds that open requests have left when the server is told to stop: a person's, and a load balancer's.
GRACE, LONG_GRACE = 2, 20


class ServerFailed(ApictlError):
    """The application did not start."""

    kind = Kind.UNAVAILABLE
    code = "server-failed"
    title = "The server did not start"


def listen(call: Call, host: str | None, port: int | None) -> "list[socket.socket]":
    """Return a socket that listens, and the one for Prometheus if the settings name a port for it.

    Connections wait in it until the server is ready. The flags win over the settings.

    Raises:
        BadSettings: An address is taken, or not this machine's.
    """
    found = bound(
        host or call.settings.listen_host,
        call.settings.listen_port if port is None else port,
        "--port, --host, or APICTL_LISTEN_PORT, APICTL_LISTEN_HOST",
    )
    beside = call.settings.metrics_port
    if beside is None:
        return [found]
    if beside == found.getsockname()[1]:
        from api.core.metrics import port_clash

        raise port_clash(beside)
    return [found, bound(call.settings.metrics_host, beside, "APICTL_METRICS_PORT, APICTL_METRICS_HOST")]


def bound(host: str, port: int, names: str) -> "socket.socket":
    """Return a socket that listens at an address, which these names choose.

    Raises:
        BadSettings: The address is taken, or not this machine's.
    """
    import socket

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # The protocol by name: without it asyncio leaves Nagle's algorithm on, which holds each answer for 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        raise BadSettings(
            f"Cannot listen on {host}:{port}",
            cause=error.strerror,
            hint=("perhaps apictl runs there already; or " if error.errno == errno.EADDRINUSE else "")
            + f"choose another: {names}",
        ) from None
    listening.set_inheritable(True)
    return listening


def url(listening: "socket.socket") -> str:
    """Return the address of a listening socket, as a browser takes it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def application() -> "FastAPI":
    """Return the application, in a process of its own or in a child."""
    import multiprocessing
    import signal

    from api.core.memory import one_heap
    from api.main import create_app

    if multiprocessing.parent_process() is not None:
        # A lost terminal is told to all of its processes: the parent ends us, in its time.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    one_heap()
    app = create_app()
    # Now, and not at the first request.
    app.middleware_stack = app.build_middleware_stack()
    # What is there now stays: to look through it again and again is what the slowest of a hundred requests wait for.
    gc.collect()
    gc.freeze()
    return app


def config(
    call: Call, listening: "socket.socket", log: dict[str, Any], application: Any = APPLICATION, **options: Any
) -> "Config":
    """Return uvicorn's configuration, with the log that was begun.

    Raises:
        BadSettings: What makes traces is not installed.
    """
    import logging

    import uvicorn

    if call.settings.otlp_endpoint is not None:
        from api.core.spans import provider_of

        # Said here, and not by each of the processes.
        provider_of(call.settings.otlp_endpoint).shutdown()
    if "issuer" not in call.settings.model_fields_set and listening.getsockname()[0] not in {"127.0.0.1", "::1"}:
        told = "APICTL_ISSUER is not set: links lead to http://localhost, which only this machine can open"
        logging.getLogger("apictl").warning(told)
    return uvicorn.Config(
        application,
        factory=application is APPLICATION,
        http="api.core.connections:Protocol",
        # We have none; an upgrade that is not understood is no upgrade.
        ws="none",
        log_level=logging.getLogger("apictl").level,
        log_config=log,
        # We write a line for a request ourselves.
        access_log=False,
        # APICTL_TRUSTED_PROXIES says whom to believe (`api/core/proxies.py`); uvicorn's own is not asked.
        proxy_headers=False,
        server_header=False,
        **({"timeout_graceful_shutdown": GRACE} | options),
    )


def serve_until_told(settings: "Config", listening: "list[socket.socket]") -> None:
    """Serve until a signal says stop.

    Raises:
        ServerFailed: The application did not start.
        SystemExit: A signal ended it, 130 or 143.
    """
    from tempfile import TemporaryDirectory

    if settings.workers == 1 or len(listening) == 1:
        run_server(settings, listening)
        return
    # Where the processes find each other's numbers.
    with TemporaryDirectory(prefix="apictl-metrics-") as folder:
        os.environ["APICTL_METRICS_FOLDER"] = folder
        run_server(settings, listening)


def run_server(settings: "Config", listening: "list[socket.socket]") -> None:
    """Serve, in this process or in children that this one watches, until a signal says stop.

    Raises:
        ServerFailed: The application did not start.
        SystemExit: A signal ended it, 130 or 143.
    """
    import signal

    import uvicorn
    from uvicorn.supervisors import ChangeReload

    from api.core import stopping

    # Children are started by `python -c`, which would look for modules in the current folder first.
    os.environ["PYTHONSAFEPATH"] = "1"
    codes = {signal.SIGINT: 130, signal.SIGTERM: 143}

    def hang_up(*_: Any) -> None:
        # Who serves in a terminal that is lost ends as by SIGTERM.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ended.append(129)
        os.kill(os.getpid(), signal.SIGTERM)

    ended: list[int] = []

    class Workers(stopping.Workers):
        # It returns when it was told to stop, or when a worker cannot start, and does not say which it was.
        def handle_int(self) -> None:
            ended.append(130)
            super().handle_int()

        def handle_term(self) -> None:
            ended.append(143)
            super().handle_term()

        def handle_hup(self) -> None:
            # To uvicorn, it means: replace every process.
            if hangs_up:
                hang_up()

    server = stopping.Server(settings)

    def stop(number: int, _frame: "FrameType | None") -> None:
        ended.append(codes[signal.Signals(number)])
        # It comes before uvicorn listens to it.
        server.should_exit = True

    # uvicorn handles signals while it serves, and sends the first one again when it is done. By then nothing is left to
    # interrupt; an exception would only tear at the event loop while it is put away.
    for number in codes:
        signal.signal(number, stop)
    # Not under nohup.
    hangs_up = signal.SIGHUP in HANDLERS
    if hangs_up:
        signal.signal(signal.SIGHUP, hang_up)
    if settings.should_reload:
        # A child of its own, to which no class of ours can be sent.
        ChangeReload(settings, target=uvicorn.Server(settings).run, sockets=listening).run()
    elif settings.workers > 1:
        Workers(settings, sockets=listening).run()
        if not ended:
            raise ServerFailed(hint="the log above says why")
    else:
        # Its own event loop: uvloop's.
        server.run(sockets=listening)
        if not server.started:
            raise ServerFailed(hint="the log above says why")
    raise SystemExit(ended[0] if ended else 0)
