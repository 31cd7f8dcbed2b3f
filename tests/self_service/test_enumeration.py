"""Row 2: whoever asks for a mail learns nothing of whether there is an account, however mail is sent, or is not."""

import time
from collections.abc import AsyncIterator
from typing import Final

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from api.config import Settings
from tests.support.cases import THOROUGH, cases
from tests.support.mail import mail_server, worker_of

ROUTES: Final = ("/v1/auth/register", "/v1/auth/forgot-password")
PAIRS: Final = cases(500)


@pytest.fixture(params=["sent", "unset", "broken"])
async def settings(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Settings]:
    """Settings with which mail is sent, not known how, or goes to where nobody listens."""
    async with mail_server() as server:
        url = {"sent": server.url, "broken": "smtp://127.0.0.1:1", "unset": None}[request.param]
        yield settings.model_copy(update={"smtp_url": None if url is None else SecretStr(url)})


@pytest.fixture
async def known(database: asyncpg.Connection) -> list[str]:
    """The addresses of people who have an account; every other one is deactivated."""
    emails = [f"known{number}@example.com" for number in range(PAIRS)]
    await database.executemany(
        "INSERT INTO users (id, email, is_active) VALUES (gen_random_uuid(), $1, $2)",
        [(email, number % 2 == 0) for number, email in enumerate(emails)],
    )
    return emails


def said(answer: httpx2.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Return all of an answer but its own number."""
    headers = [(name, value) for name, value in answer.headers.multi_items() if name.lower() != "x-request-id"]
    return answer.status_code, answer.content, headers


async def test_the_same_answer(
    app: FastAPI, client: httpx2.AsyncClient, settings: Settings, known: list[str], database: asyncpg.Connection
) -> None:
    answers = set()
    for number, email in enumerate(known):
        for route in ROUTES:
            pair = [await client.post(route, json={"email": one}) for one in (email, email.replace("known", "other"))]
            answers.add(str(said(pair[0])))
            assert said(pair[0]) == said(pair[1])
        # All of them are of one network, which would have had enough.
        await database.execute("TRUNCATE throttles")
        if settings.smtp_url is not None and number == 5:
            # What has become of the first ones makes no difference to who asks again.
            await worker_of(app.state.runtime, settings).drain()
            rows = await database.fetchval("SELECT count(*) FROM mails")
            again = [await client.post(ROUTES[1], json={"email": one}) for one in (email, "other5@example.com")]
            assert said(again[0]) == said(again[1])
            # Nor to what is written: an INSERT more would be seen by its time.
            assert await database.fetchval("SELECT count(*) FROM mails") == rows
    assert len(answers) == 1


@pytest.mark.skipif(not THOROUGH, reason="a thousand requests, one after another: CI's second run has them")
@pytest.mark.parametrize("route", ROUTES)
async def test_the_same_time(
    client: httpx2.AsyncClient, known: list[str], database: asyncpg.Connection, route: str
) -> None:
    """The chance that a request about somebody took longer than one about nobody is that of a coin."""
    times: dict[str, list[float]] = {"known": [], "other": []}
    for number, email in enumerate(known):
        await database.execute("TRUNCATE throttles")
        order = ("known", "other") if number % 2 else ("other", "known")
        for kind in order:
            began = time.perf_counter()
            await client.post(route, json={"email": email.replace("known", kind)})
            times[kind].append(time.perf_counter() - began)
    longer = sum((a > b) + (a == b) / 2 for a in times["known"] for b in times["other"])
    assert 0.46 < longer / PAIRS**2 < 0.54
