"""A migration while requests come, and somebody reads for long."""

import asyncio
import time
from typing import Any

import httpx2
import pytest

from tests.conftest import SUPERUSER
from tests.migrations.conftest import Operator, Source
from tests.support import postgres
from tests.support.cases import THOROUGH
from tests.support.processes import Apictl
from tests.support.server import serving

RATE = 50
SECONDS = 10
READS = 6


@pytest.mark.skipif(not THOROUGH, reason="ten seconds of requests: CI's second run has it")
async def test_nobody_waits_for_long(
    apictl: Apictl,
    environment: dict[str, str],
    superuser: Any,
    operator: Operator,
    source: Source,
    database_url: str,
) -> None:
    """Figures: 50 requests a second, no 5xx, and 99 of 100 within a second."""
    issued = await apictl("create-token", SUPERUSER, "-o", "json", environment=environment)
    headers = {"Authorization": f"Bearer {issued.json()['access_token']}"}
    source.add("test1", 'op.add_column("users", sa.Column("x", sa.Text()))')
    took: list[float] = []
    statuses: set[int] = set()
    with serving("serve", environment=environment, start=apictl.start) as server:
        limits = httpx2.Limits(max_connections=200)
        async with httpx2.AsyncClient(base_url=server.url, headers=headers, limits=limits, timeout=30) as client:

            async def ask() -> None:
                began = time.monotonic()
                statuses.add((await client.get("/v1/users")).status_code)
                took.append(time.monotonic() - began)

            async def read_for_long() -> None:
                async with postgres.connected(database_url) as reader:
                    await reader.execute("BEGIN; SELECT count(*) FROM users")
                    await asyncio.sleep(READS)
                    await reader.execute("COMMIT")

            async def migrate() -> Any:
                await asyncio.sleep(1)
                return await operator.migrate()

            await ask()
            took.clear()
            asking = []
            others = [asyncio.create_task(read_for_long()), asyncio.create_task(migrate())]
            for _ in range(RATE * SECONDS):
                asking.append(asyncio.create_task(ask()))
                await asyncio.sleep(1 / RATE)
            await asyncio.gather(*asking)
            _, run = await asyncio.gather(*others)
    assert [one.id for one in run.applied] == ["test1"]
    assert statuses == {200}
    assert len(took) == RATE * SECONDS
    took.sort()
    assert took[int(len(took) * 0.99)] <= 1
    assert any("waits for a lock" in line for line in operator.said)
