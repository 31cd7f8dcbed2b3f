"""Keys that change while servers run: nobody with a good token notices, and a stolen key is worth nothing."""

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import cast

import asyncpg
import httpx2
import jwt
import pytest
from fastapi import FastAPI

from api.config import Settings
from api.core.direct import Statement
from api.core.errors import DatabaseTimeout
from api.core.runtime import Runtime
from api.core.sealing import seal, unseal
from api.signing_keys.crud import add
from api.signing_keys.jwk import make_sealed, purpose
from api.signing_keys.ring import fresh
from api.tokens.keys import Keys
from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER, log_in
from tests.support.cases import THOROUGH
from tests.support.processes import Apictl, Finished
from tests.support.server import serving
from tests.support.servers import two_servers


@pytest.fixture
async def servers(
    apictl: Apictl, environment: dict[str, str], superuser: User
) -> AsyncIterator[tuple[httpx2.AsyncClient, httpx2.AsyncClient]]:
    """Two processes that serve the same database."""
    async with two_servers(apictl, environment) as clients:
        yield clients


@pytest.mark.skipif(not THOROUGH, reason="seconds of requests: CI's second run has them")
async def test_rotating_under_load(
    apictl: Apictl, environment: dict[str, str], servers: tuple[httpx2.AsyncClient, httpx2.AsyncClient]
) -> None:
    """Row 15: 50 requests a second at two processes, every token good, while keys of other algorithms come."""
    tokens = await log_in(servers[0], SUPERUSER)
    access, refresh = [tokens["access_token"]], tokens["refresh_token"]
    kids, statuses = set(), []

    async def use(server: httpx2.AsyncClient, token: str) -> None:
        answer = await server.get("/v1/users/me", headers={"Authorization": f"Bearer {token}"})
        statuses.append(answer.status_code)

    waiting: list[asyncio.Task[None]] = []
    rotations: list[asyncio.Task[Finished]] = []
    begun = time.monotonic()
    for number in range(120):
        if number % 40 == 10:
            algorithm = ("ES256", "HS256", "RS256")[number // 40]
            line = ("rotate-keys", "--wait", "0", "--algorithm", algorithm)
            rotations.append(asyncio.create_task(apictl(*line, environment=environment)))
        if number % 5 == 0:
            # Signed by one process; used at the other at once.
            form = {"grant_type": "refresh_token", "refresh_token": refresh}
            answer = (await servers[number // 5 % 2].post("/v1/auth/token", data=form)).raise_for_status().json()
            refresh = answer["refresh_token"]
            access.append(answer["access_token"])
            kids.add(jwt.get_unverified_header(access[-1])["kid"])
            waiting.append(asyncio.create_task(use(servers[(number // 5 + 1) % 2], access[-1])))
        waiting.append(asyncio.create_task(use(servers[number % 2], access[number * 7 % len(access)])))
        await asyncio.sleep(max(0.0, begun + number / 50 - time.monotonic()))
    await asyncio.gather(*waiting)
    lasted = time.monotonic() - begun
    assert statuses == [200] * 144
    assert [ended.code for ended in await asyncio.gather(*rotations)] == [0] * 3
    assert lasted < 4, "that was no load"
    assert len(kids) >= 3, "the servers have not taken the new keys up"


async def test_a_retired_key_verifies_nothing_within_a_second(
    apictl: Apictl, environment: dict[str, str], servers: tuple[httpx2.AsyncClient, httpx2.AsyncClient]
) -> None:
    token = (await log_in(servers[0], SUPERUSER))["access_token"]
    kid = jwt.get_unverified_header(token)["kid"]
    headers = {"Authorization": f"Bearer {token}"}
    for server in servers:
        assert (await server.get("/v1/users/me", headers=headers)).status_code == 200
    for line in (("rotate-keys", "--wait", "0"), ("retire-key", kid, "--force", "--yes")):
        assert (await apictl(*line, environment=environment)).code == 0
    retired = time.monotonic()
    for server in servers:
        while (await server.get("/v1/users/me", headers=headers)).status_code == 200:
            assert time.monotonic() < retired + 1.5
        published = (await server.get("/.well-known/jwks.json")).json()["keys"]
        assert kid not in {key["kid"] for key in published}
        assert len(published) == 1


async def test_what_is_pending_is_published(
    app: FastAPI, client: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    made = [
        (await admin.post("/v1/signing-keys", json={"algorithm": name})).json() for name in ("ES256", "RS256", "HS256")
    ]
    await fresh(app.state.keys, app.state.runtime, since=time.monotonic())
    answer = await client.get("/.well-known/jwks.json")
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    published = answer.json()["keys"]
    assert [key["alg"] for key in published] == ["EdDSA", "ES256", "RS256"]
    assert published[1:] == [key["public_jwk"] for key in made[:2]]
    private = {"d", "p", "q", "dp", "dq", "qi", "k"}
    assert not private & {name for key in published for name in key}
    # Others hold it; we do not sign with it yet.
    assert jwt.get_unverified_header(admin.headers["Authorization"].split()[1])["kid"] == published[0]["kid"]
    assert app.state.keys.require_signing().kid == published[0]["kid"]


async def test_twenty_processes_make_one_first_key(settings: Settings, database: asyncpg.Connection) -> None:
    async def start() -> str:
        async with Runtime.open(settings, pool_size=1) as runtime:
            return (await fresh(Keys.load(settings), runtime)).require_signing().kid

    assert len(set(await asyncio.gather(*(start() for _ in range(20))))) == 1
    assert await database.fetchval("SELECT count(*) FROM signing_keys") == 1
    assert await database.fetchval("SELECT count(*) FROM audit_entries WHERE target = 'signing_key'") == 1


async def test_ten_rotations_at_once(admin: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    # RSA takes half a second each, which nobody else may have to wait for.
    asked = [{"algorithm": name} for name in ("EdDSA", "RS256") * 5]
    answers = await asyncio.gather(*(admin.post("/v1/signing-keys", json=how) for how in asked))
    assert [answer.status_code for answer in answers] == [201] * 10
    assert await database.fetchval("SELECT array_agg(number ORDER BY number) FROM signing_keys") == [*range(1, 12)]


async def test_another_secret_key(apictl: Apictl, environment: dict[str, str], superuser: User) -> None:
    """Who lost the secret key can see that it is that, and go on with a new one."""
    issued = (await apictl("create-token", SUPERUSER, "-o", "json", environment=environment)).json()
    changed = environment | {"APICTL_SECRET_KEY": secrets.token_hex(32)}
    for line in (("create-token", SUPERUSER), ("serve", "--port", "0")):
        refused = await apictl(*line, environment=changed)
        assert (refused.code, "another APICTL_SECRET_KEY" in refused.err) == (12, True), line
        assert "apictl rotate-keys --wait 0" in refused.err
    assert (await apictl("rotate-keys", "--wait", "0", environment=changed)).code == 0
    with serving("serve", environment=changed, start=apictl.start) as server:
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
            await log_in(client, SUPERUSER)
            # What the old key signed is verified with what was published of it.
            headers = {"Authorization": f"Bearer {issued['access_token']}"}
            assert (await client.get("/v1/users/me", headers=headers)).status_code == 200


async def test_nothing_that_signs_is_readable_in_the_database(
    settings: Settings, runtime: Runtime, database: asyncpg.Connection
) -> None:
    keys = await fresh(Keys.load(settings), runtime)
    row = await database.fetchrow("SELECT * FROM signing_keys")
    assert row is not None
    kid, algorithm = str(row["id"]), row["algorithm"]
    material = unseal(row["sealed"], keys.sealing, purpose=purpose(kid, algorithm))
    assert material is not None
    raw = keys.require_signing().private.private_bytes_raw()
    assert raw in material
    assert raw not in row["sealed"]
    assert base64.urlsafe_b64encode(raw).rstrip(b"=") not in str(dict(row)).encode()
    again = seal(material, keys.sealing, purpose=purpose(kid, algorithm))
    assert row["sealed"] != again, "each is sealed with a number of its own"
    # Neither in another row, nor for another algorithm, nor with the key for something else.
    for other, key in (
        (purpose(kid, "HS256"), keys.sealing),
        (purpose(kid[::-1], algorithm), keys.sealing),
        (purpose(kid, algorithm), keys.refresh),
    ):
        assert unseal(row["sealed"], key, purpose=other) is None
    assert unseal(b"", keys.sealing, purpose=purpose(kid, algorithm)) is None


async def test_a_key_that_was_sealed_elsewhere_is_not_signed_with(
    app: FastAPI, client: httpx2.AsyncClient, superuser: User, database: asyncpg.Connection
) -> None:
    """A terminal with another secret key must not stop everybody's logins when its key's time comes."""
    good = jwt.get_unverified_header((await log_in(client, SUPERUSER))["access_token"])["kid"]
    sealed = make_sealed("EdDSA", b"f" * 32)
    async with app.state.runtime.transaction() as session:
        await add(session, sealed)
    await fresh(app.state.keys, app.state.runtime, since=time.monotonic())
    assert str(sealed.id) in app.state.keys.ring
    token = (await log_in(client, SUPERUSER))["access_token"]
    assert jwt.get_unverified_header(token)["kid"] == good
    # Nor is the one that signs taken for one that is over.
    bearing = {"Authorization": f"Bearer {token}"}
    listed = (await client.get("/v1/signing-keys", headers=bearing)).json()["items"]
    assert {key["id"]: key["state"] for key in listed}[good] == "signing"
    await database.execute("UPDATE signing_keys SET active_from = active_from - interval '1 day'")
    refused = await client.delete(f"/v1/signing-keys/{good}", headers=bearing)
    assert (refused.status_code, refused.json()["code"]) == (409, "signing-key-in-use")
    assert (await client.delete(f"/v1/signing-keys/{sealed.id}", headers=bearing)).status_code == 200


async def test_what_cannot_be_signed_uses_nothing_up(
    app: FastAPI, client: httpx2.AsyncClient, superuser: User, database: asyncpg.Connection
) -> None:
    tokens = await log_in(client, SUPERUSER)
    state = "SELECT array_agg((id, rotation)::text) FROM sessions"
    before = await database.fetchval(state)
    app.state.keys.fill((), now=datetime.now(UTC), at=float("inf"))
    for form in (
        {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD},
        {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]},
    ):
        answer = await client.post("/v1/auth/token", data=form)
        assert (answer.status_code, answer.json()["code"]) == (503, "bad-settings")
    assert await database.fetchval(state) == before


class Recorded:
    """A runtime whose reads of the ring count themselves, wait at a gate with their rows, and perhaps fail."""

    def __init__(self, runtime: Runtime) -> None:
        self.settings = runtime.settings
        self.direct = self
        self._runtime = runtime
        self.begun = 0
        self.has_begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.failing = False

    async def fetch(self, statement: Statement) -> list[asyncpg.Record]:
        rows = await self._runtime.direct.fetch(statement)
        self.begun += 1
        self.has_begun.set()
        await self.gate.wait()
        if self.failing:
            raise DatabaseTimeout
        return rows


async def test_a_hanging_database_is_waited_for_once(settings: Settings, runtime: Runtime) -> None:
    """Row 41: not one after the other, until the last has waited for all before it."""
    recorded = Recorded(runtime)
    recorded.failing = True
    keys = Keys.load(settings)
    waiting = [asyncio.create_task(fresh(keys, cast("Runtime", recorded))) for _ in range(20)]
    await recorded.has_begun.wait()
    recorded.gate.set()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in ended] == [DatabaseTimeout] * 20
    assert recorded.begun == 1


async def test_a_key_that_is_made_while_the_ring_is_read_is_found_by_whoever_asks_then(
    settings: Settings, runtime: Runtime
) -> None:
    keys = await fresh(Keys.load(settings), runtime)
    recorded = Recorded(runtime)
    early = asyncio.create_task(fresh(keys, cast("Runtime", recorded), since=time.monotonic()))
    await recorded.has_begun.wait()
    # It has its answer, and has not brought it home: now a key is made, and a token of it arrives.
    async with runtime.transaction() as session:
        made = await add(session, make_sealed("EdDSA", keys.sealing))
    late = asyncio.create_task(fresh(keys, cast("Runtime", recorded), since=time.monotonic()))
    await asyncio.sleep(0)
    recorded.gate.set()
    await asyncio.gather(early, late)
    assert str(made.id) in keys.ring
    assert recorded.begun == 2
