"""Several processes that serve one database, and a network between them and their clients that fails."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2

from tests.support.processes import Apictl
from tests.support.server import serving


@asynccontextmanager
async def two_servers(
    apictl: Apictl, environment: Mapping[str, str]
) -> AsyncIterator[tuple[httpx2.AsyncClient, httpx2.AsyncClient]]:
    """Start two processes, and yield a client of each."""
    async with AsyncExitStack() as stack:
        servers = [stack.enter_context(serving("serve", environment=environment, start=apictl.start)) for _ in range(2)]
        first, second = [
            await stack.enter_async_context(
                httpx2.AsyncClient(base_url=one.url, timeout=30, trust_env=False, limits=httpx2.Limits())
            )
            for one in servers
        ]
        yield first, second


@asynccontextmanager
async def cut_after_the_answer(port: int) -> AsyncIterator[str]:
    """Yield the URL of a network that brings each request there, and loses each answer once it is under way."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, there = await asyncio.open_connection("127.0.0.1", port)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2]) for line in head.splitlines() if line.lower().startswith(b"content-length")
        )
        there.write(head + await reader.readexactly(length))
        # The server has answered, so it has committed.
        await upstream.read(1)
        for one in (writer, there):
            one.transport.abort()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
