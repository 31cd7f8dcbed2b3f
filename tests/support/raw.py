"""Bytes on a connection, as no client would send them, to a server of ours in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from api.core.connections import Protocol


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[int]:
    """Serve an application by our protocol; yield the port."""
    config = uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(config, state, {}), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()


async def exchange(port: int, *pieces: bytes, seconds: float = 20) -> bytes:
    """Send the pieces, each in a packet of its own, and return what comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), seconds)
    finally:
        writer.close()


def statuses(said: bytes) -> list[int]:
    """Return the statuses of the answers, in their order."""
    return [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:]]
