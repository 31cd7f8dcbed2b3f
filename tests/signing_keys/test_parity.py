"""Signing keys through each door: the same rows, audit entries and error codes."""

import json
import time
from typing import Any, Final

import asyncpg
import httpx2
import jwt
import pytest
from fastapi import FastAPI

from api.signing_keys.jwk import ALGORITHMS
from api.signing_keys.ring import fresh
from tests.conftest import SUPERUSER
from tests.support.doors import Door

UNKNOWN: Final = "00000000-0000-7000-8000-000000000000"


async def states(door: Door) -> list[str]:
    """Return what each key does, the newest first."""
    return [key["state"] for key in (await door.do("list-keys")).body["items"]]


async def test_the_life_of_a_key(door: Door, database: asyncpg.Connection) -> None:
    await door.do("create-token", SUPERUSER)
    (first,) = (await door.do("list-keys")).body["items"]
    assert (first["algorithm"], first["state"]) == ("EdDSA", "signing")
    assert set(first["public_jwk"]) == {"kty", "crv", "x", "kid", "alg", "use"}
    assert first["public_jwk"]["kid"] == first["id"]
    in_use = await door.do("retire-key", first["id"], force=True)
    assert (in_use.code, first["id"] in in_use.body["detail"]) == ("signing-key-in-use", True)

    second = (await door.do("rotate-keys")).body
    assert second["state"] == "pending"
    assert await states(door) == ["pending", "signing"]
    await database.execute("UPDATE signing_keys SET active_from = now() WHERE id = $1", second["id"])
    assert await states(door) == ["signing", "verifying"]
    early = await door.do("retire-key", first["id"])
    assert (early.code, "--force" in early.body["hint"]) == ("signing-key-in-use", True)

    third = (await door.do("rotate-keys", algorithm="HS256", wait=0)).body
    assert (third["state"], third["public_jwk"]) == ("signing", None)
    assert (await door.do("retire-key", second["id"], force=True)).body["state"] == "retired"
    # As if the last token of the first key had run out.
    await database.execute("UPDATE signing_keys SET active_from = active_from - interval '961 seconds'")
    for _ in range(2):
        assert (await door.do("retire-key", first["id"])).body["state"] == "retired"
    assert await states(door) == ["signing", "retired", "retired"]
    assert await database.fetchval("SELECT count(*) FROM signing_keys WHERE sealed IS NULL") == 2
    # A pending one can be taken back.
    pending = (await door.do("rotate-keys", wait=60)).body
    assert (await door.do("retire-key", pending["id"])).body["state"] == "retired"

    entries = await database.fetch("SELECT * FROM audit_entries WHERE target = 'signing_key' ORDER BY at, id")
    assert [(entry["action"], str(entry["target_id"]), json.loads(entry["detail"])) for entry in entries] == [
        ("signing_key.create", first["id"], {"algorithm": "EdDSA"}),
        ("signing_key.rotate", second["id"], {"algorithm": "EdDSA", "wait": 600}),
        ("signing_key.rotate", third["id"], {"algorithm": "HS256", "wait": 0}),
        ("signing_key.retire", second["id"], {"force": True}),
        ("signing_key.retire", first["id"], {"force": False}),
        ("signing_key.rotate", pending["id"], {"algorithm": "EdDSA", "wait": 60}),
        ("signing_key.retire", pending["id"], {"force": False}),
    ]
    assert {entry["door"] for entry in entries if entry["action"] != "signing_key.create"} == {door.name}


async def test_the_first_key_signs_at_once_whoever_makes_it(door: Door, database: asyncpg.Connection) -> None:
    await database.execute("DELETE FROM signing_keys")
    first = (await door.do("rotate-keys", wait=3600)).body
    assert first["state"] == "signing"
    assert (await door.do("retire-key", first["id"], force=True)).code == "signing-key-in-use"
    assert (await door.do("create-token", SUPERUSER)).code is None


async def test_there_are_not_too_many(door: Door, database: asyncpg.Connection) -> None:
    """Everybody who verifies our tokens fetches them all."""
    await door.do("rotate-keys")
    await database.execute(
        "INSERT INTO signing_keys (id, number, algorithm, sealed) "
        "SELECT gen_random_uuid(), n, 'HS256', '' FROM generate_series(100, 117) n"
    )
    codes = [(await door.do("rotate-keys")).code for _ in range(3)]
    assert "too-many-signing-keys" in codes
    assert await database.fetchval("SELECT count(*) FROM signing_keys") == 20


async def test_pages(door: Door) -> None:
    await door.do("create-token", SUPERUSER)
    made = [(await door.do("rotate-keys")).body["id"] for _ in range(3)]
    page = (await door.do("list-keys", limit=2)).body
    assert [key["id"] for key in page["items"]] == made[:0:-1]
    rest = (await door.do("list-keys", limit=2, cursor=page["next_cursor"])).body
    assert (rest["items"][0]["id"], len(rest["items"]), rest["next_cursor"]) == (made[0], 2, None)


@pytest.mark.parametrize(
    ("verb", "arguments", "options", "code"),
    [
        ("rotate-keys", (), {"algorithm": "none"}, "invalid-input"),
        ("rotate-keys", (), {"algorithm": "eddsa"}, "invalid-input"),
        ("rotate-keys", (), {"wait": -1}, "invalid-input"),
        ("rotate-keys", (), {"wait": 10**12}, "invalid-input"),
        ("retire-key", (UNKNOWN,), {}, "signing-key-not-found"),
        ("retire-key", ("x",), {}, "invalid-input"),
    ],
)
async def test_refusals(
    door: Door, verb: str, arguments: tuple[str, ...], options: dict[str, Any], code: str, database: asyncpg.Connection
) -> None:
    assert (await door.do(verb, *arguments, **options)).code == code
    assert await database.fetchval("SELECT count(*) FROM signing_keys WHERE number > 1") == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_every_algorithm(door: Door, algorithm: str, app: FastAPI, client: httpx2.AsyncClient) -> None:
    made = (await door.do("rotate-keys", algorithm=algorithm, wait=0)).body
    # No more than a second later, by itself.
    await fresh(app.state.keys, app.state.runtime, since=time.monotonic())
    token = (await door.do("create-token", SUPERUSER)).body["access_token"]
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "typ": "at+jwt", "kid": made["id"]}
    answer = await client.get("/v1/users/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["email"] == SUPERUSER
