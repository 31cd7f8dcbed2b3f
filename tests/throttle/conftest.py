"""Both places in which guesses are counted, a clock that can be moved, and clients in other networks."""

import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from redis import Redis

from api.config import Settings

SERVER: Final = shutil.which("valkey-server") or shutil.which("redis-server")
Forward = Callable[[float], Awaitable[None]]
From = Callable[[str], Awaitable[httpx2.AsyncClient]]


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey, or Redis, of this run's own."""
    if SERVER is None:
        pytest.skip("neither Valkey nor Redis is installed (Debian: apt install redis-server)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = [SERVER, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", "s3cret"]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 20
            while not answers(port):
                assert process.poll() is None, "it ended"
                assert time.monotonic() < deadline, "it did not start"
                time.sleep(0.02)
            yield f"valkey://:s3cret@127.0.0.1:{port}/1"
        finally:
            process.terminate()


def answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(params=["postgresql", "valkey"])
def store(request: pytest.FixtureRequest) -> str | None:
    """Where guesses are counted: the URL of a Valkey that has nothing in it, or the database."""
    if request.param == "postgresql":
        return None
    url: str = request.getfixturevalue("valkey_url")
    with Redis.from_url(url.replace("valkey", "redis")) as redis:
        redis.flushdb()
    return url


@pytest.fixture
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings that name it, where a test asks for both."""
    url = request.getfixturevalue("store") if "store" in request.fixturenames else None
    return settings.model_copy(update={"throttle_url": url and SecretStr(url)})


@pytest.fixture
def forward(store: str | None, database: asyncpg.Connection) -> Forward:
    """Let so many seconds pass, for the buckets."""

    async def move(seconds: float) -> None:
        if store is None:
            await database.execute("UPDATE throttles SET until = until - $1::interval", timedelta(seconds=seconds))
            return
        with Redis.from_url(store.replace("valkey", "redis")) as redis:
            for key in redis.scan_iter():
                # Whoever is known is a 1.
                if int(redis.get(key) or 1) > 1:
                    redis.incrby(key, -int(seconds * 1000))

    return move


@pytest.fixture
async def client_from(app: FastAPI) -> AsyncIterator[From]:
    """Make a client that has another address."""
    async with AsyncExitStack() as stack:

        async def make(address: str) -> httpx2.AsyncClient:
            transport = httpx2.ASGITransport(app=app, client=(address, 1), raise_app_exceptions=False)
            return await stack.enter_async_context(
                httpx2.AsyncClient(transport=transport, base_url="http://testserver")
            )

        yield make
