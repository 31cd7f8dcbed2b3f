"""A network that fails: a proxy of TCP that hangs, delays, cuts and half-closes what it carries."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Self
from urllib.parse import parse_qsl, urlsplit, urlunsplit

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
PIECE = 65536


class Proxy:
    """Between clients and one server; what it does to them may change at any time.

    Attributes:
        port: Where it listens, on loopback.
        delay: Seconds that each piece is late, either way.
        cut_at: Whatever a client sends with these bytes in it arrives, and the connection ends before the answer does.
        cut_after: Each connection ends when so many bytes of answers have gone through.
        cuts: How many times it has done so.
    """

    port: int

    def __init__(self, upstream: Callable[[], Awaitable[Streams]]) -> None:
        self._upstream = upstream
        self._carried: set[Carried] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.delay = 0.0
        self.cut_at: bytes | None = None
        self.cut_after: int | None = None
        self.cuts = 0

    @classmethod
    @asynccontextmanager
    async def to(cls, upstream: Callable[[], Awaitable[Streams]]) -> AsyncIterator[Self]:
        """Carry for the length of a `with` block."""
        proxy = cls(upstream)
        tasks: set[asyncio.Task[None]] = set()

        async def carry(*client: *Streams) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - we are in it
            tasks.add(task)
            # Whoever hangs is let go at the end.
            with suppress(OSError, asyncio.CancelledError):
                await proxy._carry(client)
            client[1].transport.abort()
            tasks.discard(task)

        async with await asyncio.start_server(carry, "127.0.0.1", 0) as listening:
            proxy.port = listening.sockets[0].getsockname()[1]
            yield proxy
            listening.close()
            proxy.cut()
            for task in [*tasks]:
                task.cancel()
            await asyncio.gather(*tasks)

    def hang(self) -> None:
        """Carry nothing any more, and tell nobody; whoever connects is let in, and hears nothing."""
        self._flowing.clear()

    def heal(self, *, forgetful: bool = False) -> None:
        """Carry again; the connections that there are go on, or stay silent for ever, as if a router had lost them."""
        for one in self._carried:
            one.is_forgotten = one.is_forgotten or forgetful
        self._flowing.set()

    def cut(self) -> None:
        """End every connection that there is, at once."""
        for one in [*self._carried]:
            one.end()

    def half_close(self) -> None:
        """Tell every client that the server has nothing more to say, and go on listening to them."""
        for one in self._carried:
            if not one.is_half_closed:
                one.is_half_closed = True
                one.client[1].write_eof()

    async def _carry(self, client: Streams) -> None:
        await self._flowing.wait()
        one = Carried(client, await self._upstream())
        self._carried.add(one)
        try:
            await asyncio.gather(self._copy(one, is_answer=False), self._copy(one, is_answer=True))
        finally:
            one.end()
            self._carried.discard(one)

    async def _copy(self, one: "Carried", *, is_answer: bool) -> None:
        (source, _), (_, sink) = (one.server, one.client) if is_answer else (one.client, one.server)
        # Who cuts one way ends the other as well.
        with suppress(OSError):
            while data := await source.read(PIECE):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._flowing.wait()
                if one.is_forgotten:
                    await asyncio.Event().wait()
                if is_answer and (one.is_last or self._is_over(one, len(data))):
                    self.cuts += 1
                    one.end()
                    return
                if not is_answer and self.cut_at is not None and self.cut_at in data:
                    one.is_last = True
                if is_answer and one.is_half_closed:
                    continue
                sink.write(data)
                await sink.drain()
            sink.close()

    def _is_over(self, one: "Carried", more: int) -> bool:
        one.answered += more
        return self.cut_after is not None and one.answered > self.cut_after


class Carried:
    """A connection that is carried: its two ends, and what is done to it."""

    def __init__(self, client: Streams, server: Streams) -> None:
        self.client = client
        self.server = server
        self.is_forgotten = False
        self.is_last = False
        self.is_half_closed = False
        self.answered = 0

    def end(self) -> None:
        """End it at once."""
        for _, writer in (self.client, self.server):
            writer.transport.abort()


@asynccontextmanager
async def before_database(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """Carry to the PostgreSQL that the URL names, and yield the proxy and the URL that leads through it."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))

    async def upstream() -> Streams:
        if parts.hostname:
            return await asyncio.open_connection(parts.hostname, parts.port or 5432)
        return await asyncio.open_unix_connection(f"{query['host']}/.s.PGSQL.{query.get('port', '5432')}")

    async with Proxy.to(upstream) as proxy:
        netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}"
        yield proxy, urlunsplit(parts._replace(netloc=netloc, query=""))
