"""How a server stops: nobody who was let in goes without an answer. HTTP only, with uvicorn's classes."""

import asyncio
import ctypes
import logging
import multiprocessing
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Final

import uvicorn
from uvicorn.supervisors import Multiprocess, multiprocess

LOG: Final = logging.getLogger("uvicorn.error")
# Seconds in which whoever has just been let in sends what they want.
LAST_CALL: Final = 0.1
# Linux's number of it, for which Python has no name; see socket(7).
SO_ATTACH_FILTER: Final = 26
# In the machine language of bpf(4): load the flags of TCP; is SYN among them? Then take nothing of it, else all.
REFUSE_SYN: Final = b"".join(
    struct.pack("HBBI", *step) for step in ((0x30, 0, 0, 13), (0x45, 0, 1, 2), (6, 0, 0, 0), (6, 0, 0, 0xFFFFFFFF))
)


class Server(uvicorn.Server):
    """uvicorn's, which goes on answering for a while when it is told to stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told: list[int] = []
        self._is_hurried = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; asked again, at once."""
        # A worker is told by whoever stops the service, and once more by the process that watches over it.
        if self._told and sig == signal.SIGTERM and multiprocessing.parent_process() is not None:
            return
        self._told.append(sig)
        if not self.should_exit:
            super().handle_exit(sig, frame)
        elif not self._is_hurried:
            self._is_hurried = True
        else:
            # Whoever is still connected is cut off. uvicorn's own way would tear down the application in the middle,
            # with a traceback for each part of it.
            for connection in list(self.server_state.connections):
                connection.transport.abort()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let balancers notice, and clients take leave; then let nobody in, and end what is under way."""
        app = self.config.loaded_app
        if self._told[:1] == [signal.SIGTERM]:
            app.draining = True
            seconds = app.state.settings.drain_timeout
            LOG.info("Told to stop: not ready any more, and answering for %g s", seconds)
            until = time.monotonic() + seconds
            while not self._is_hurried and time.monotonic() < until:
                # The clock in the answers goes on.
                await self.on_tick(0)
                await asyncio.sleep(LAST_CALL)
            for one in sockets or ():
                turn_away(one)
            await asyncio.sleep(LAST_CALL)
        self._is_hurried = True
        await super().shutdown(sockets)


class Worker(multiprocess.Process):
    """uvicorn's process of a worker, with our server in it."""

    @property
    def server(self) -> uvicorn.Server:
        """The server, made when it is first needed: in the child."""
        if self._server is None:
            self._server = Server(self.config)
        return self._server


class Workers(Multiprocess):
    """uvicorn's processes, with our servers in them."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        # uvicorn makes them in several places, and of no other class.
        multiprocess.Process = Worker  # type: ignore[misc]
        super().__init__(config, sockets)

    def terminate_all(self) -> None:
        """Tell them to stop."""
        super().terminate_all()
        # While it is open here, the system would let in whoever comes, and nobody would ever answer them.
        for one in self.sockets:
            one.close()


def turn_away(listening: socket.socket) -> None:
    """Have the system let nobody in any more, but those who are at the door already.

    Who comes in the moment in which a socket is closed would be let in, and cut off. Now they knock, hear nothing, and
    knock again in a second: then nobody listens, or the next server does.
    """
    if sys.platform == "linux" and listening.family in {socket.AF_INET, socket.AF_INET6}:
        program = ctypes.create_string_buffer(REFUSE_SYN)
        steps = struct.pack("HL", len(REFUSE_SYN) // 8, ctypes.addressof(program))
        with suppress(OSError):
            listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, steps)
