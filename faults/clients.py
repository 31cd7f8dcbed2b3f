"""Clients that keep their connections, and tell what came of each of their requests."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

# Seconds after which a client counts a request as hung: more than any server of ours may take.
PATIENCE: Final = 20.0
# What is no status of HTTP: the connection ended before the answer did, or nothing came at all.
CUT, HUNG = 0, -1


class Answer(NamedTuple):
    """What came of a request, when it was sent (monotonic), and how many seconds it took."""

    status: int
    headers: dict[str, str]
    body: bytes
    at: float
    seconds: float

    @property
    def code(self) -> str:
        """The word of a problem; empty, where it is none."""
        return str(json.loads(self.body)["code"]) if self.status >= 400 else ""


class Client:
    """One connection at a time, kept as long as the server keeps it; only to connect is ever tried again."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: Any = None, *, once: str | None = None) -> Answer:
        """Send a request, `once` as its idempotency key, and return what came of it."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._key}\r\n"
        if once is not None:
            head += f"Idempotency-Key: {once}\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        reader, writer = await self._connected()
        at = time.monotonic()
        status, headers, answer = CUT, {}, b""
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(head.encode() + b"\r\n" + content)
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                answer = await reader.readexactly(int(headers.get("content-length", 0)))
                status = int(lines[0].split()[1])
        except TimeoutError:
            status = HUNG
        except (OSError, asyncio.IncompleteReadError):
            pass
        if status <= 0 or headers.get("connection") == "close":
            self.close()
        return Answer(status, headers, answer, at, time.monotonic() - at)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()
        while self._streams is None:
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.02)
        return self._streams

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


Ask = Callable[[Client, int], AsyncIterator[Answer]]


@dataclass
class Load:
    """What came of many clients' requests."""

    answers: list[Answer] = field(default_factory=list)
    # Whom the answers call created, and whom they call refused.
    users: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    @property
    def statuses(self) -> Counter[int]:
        """How many of each status there were."""
        return Counter(one.status for one in self.answers)

    @property
    def shown(self) -> str:
        """The statuses, for a person."""
        names = {CUT: "cut", HUNG: "hung"}
        return ", ".join(f"{number}x {names.get(status, status)}" for status, number in sorted(self.statuses.items()))

    @property
    def slowest(self) -> float:
        """Seconds that the slowest of them took."""
        return max(one.seconds for one in self.answers)

    def first_good(self, since: float) -> float:
        """Return how many seconds after a time the first request was answered with success that was sent after it."""
        good = [one for one in self.answers if one.at >= since and 200 <= one.status < 300]
        return min((one.at + one.seconds - since for one in good), default=PATIENCE)

    def last_bad(self, since: float) -> float:
        """Return how many seconds after a time the last request was sent that did not succeed."""
        return max([0.0, *(one.at - since for one in self.answers if not 200 <= one.status < 300)])

    async def write(self, client: Client, name: str) -> Answer:
        """Create a user, and remember the address if it was acknowledged, or refused."""
        answer = await client.ask("POST", "/v1/users", {"email": f"{name}@example.com"})
        if answer.status == 201:
            self.users.add(f"{name}@example.com")
        elif answer.status > 0 and answer.code != "outcome-unknown":
            self.refused.add(f"{name}@example.com")
        return answer


@asynccontextmanager
async def loaded(port: int, key: str, *, clients: int, name: str, writes: bool = True) -> AsyncIterator[Load]:
    """Have so many clients ask for the length of a `with` block; each ends with the answer that it waits for then."""
    load, ended = Load(), asyncio.Event()

    async def go_on(number: int) -> None:
        client, count = Client(port, key), 0
        while not ended.is_set():
            count += 1
            kind = (number + count) % 3 if writes else count % 2
            if kind == 2:
                answer = await load.write(client, f"{name}-{number}-{count}")
            else:
                answer = await client.ask("GET", ("/v1/users/me", "/v1/users?limit=5")[kind])
            load.answers.append(answer)
            if answer.status == 503:
                # As who was refused should.
                await asyncio.sleep(0.05)
        client.close()

    tasks = [asyncio.create_task(go_on(number)) for number in range(clients)]
    try:
        yield load
    finally:
        ended.set()
        await asyncio.gather(*tasks)
