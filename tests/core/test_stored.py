"""Row 10: whoever has the database has nothing that opens anything."""

from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from api.config import Settings
from tests.conftest import SUPERUSER
from tests.support.cases import cases
from tests.support.mail import MailServer, mail_server, worker_of

# What is shown of each kind is a prefix that says what it is, and the secret; of a part of that, as little is there.
TAIL: Final = 16


@pytest.fixture
async def server(app: FastAPI, settings: Settings) -> AsyncIterator[MailServer]:
    async with mail_server() as made:
        sending = settings.model_copy(update={"smtp_url": SecretStr(made.url)})
        object.__setattr__(app.state.runtime, "settings", sending)
        yield made


async def made(admin: httpx2.AsyncClient, number: int) -> list[str]:
    """Return the secrets of one of each kind, which are all in use."""
    email, password = f"somebody{number}@example.com", f"{number} unrelated words of somebody"
    await accepted(admin.post("/v1/users", json={"email": email, "password": password}))
    issued = await accepted(admin.post("/v1/tokens", json={"user": email}))
    form = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"]}
    rotated = await accepted(admin.post("/v1/auth/token", data=form))
    key = await accepted(admin.post("/v1/api-keys", json={"user": SUPERUSER, "name": f"key{number}", "scopes": []}))
    device = await accepted(admin.post("/v1/auth/device"))
    await accepted(admin.post(f"/v1/users/{email}/send-reset"))
    tokens = [one[name] for one in (issued, rotated) for name in ("access_token", "refresh_token")]
    return [password, *tokens, key["key"], device["device_code"]]


async def accepted(answer: Any) -> Any:
    given = await answer
    assert given.is_success, given.text
    return given.json()


async def test_nothing_that_opens_anything_is_in_the_database(
    app: FastAPI, admin: httpx2.AsyncClient, server: MailServer, database: asyncpg.Connection, settings: Settings
) -> None:
    """Neither as it was shown, nor the end of it, in any column of any table."""
    each = cases(150)
    secrets = []
    for number in range(each):
        # Devices are held back, who begin to wait by the dozen; that is another test.
        await database.execute("TRUNCATE throttles")
        secrets += await made(admin, number)
    await worker_of(app.state.runtime, app.state.runtime.settings).drain()
    secrets += [server.link(number)[1] for number in range(len(server.mails))]
    assert len(set(secrets)) == len(secrets) == each * 8
    tables = [row[0] for row in await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    filled = 0
    for table in tables:
        # Bytes are hexadecimal there, and would be found as such.
        dump = await database.fetchval(f"SELECT string_agg(row::text, ' ') FROM {table} row") or ""  # noqa: S608 - its own
        filled += bool(dump)
        for secret in secrets:
            for part in (secret, secret[-TAIL:], secret.encode().hex(), secret[-TAIL:].encode().hex()):
                assert part not in dump, f"{table} has {secret[:12]}…"
    assert filled > 6
