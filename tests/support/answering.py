"""A server that answers what a test wants it to."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Answer = Callable[[str], Awaitable[bytes]]


def document(value: dict[str, Any], status: int = 200) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def always(value: dict[str, Any], status: int = 200) -> Answer:
    async def answer(_: str) -> bytes:
        return document(value, status)

    return answer


@asynccontextmanager
async def answering(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that answers each request, of which it is given head and body, so; its port, and what it was asked."""
    requests: list[str] = []
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1])) if length else b""
            if "chunked" in head:
                await reader.readuntil(b"0\r\n\r\n")
            requests.append(head.splitlines()[0].removesuffix(" HTTP/1.1"))
            writer.write(await answer(head + body.decode()))
        except (asyncio.CancelledError, asyncio.IncompleteReadError):
            # The test is over, or whoever asked has gone.
            writer.transport.abort()
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with listening:
        yield listening.sockets[0].getsockname()[1], requests
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
