"""Tokens through each door: the same rows, audit entries and error codes."""

import json

import asyncpg
import httpx2

from tests.conftest import SUPERUSER
from tests.support.doors import Door

UNKNOWN = "00000000-0000-7000-8000-000000000000"
EXPECTED = [
    None,
    "user-not-found",
    "user-inactive",
    None,
    "scope-exceeds-owner",
    "invalid-input",
    "invalid-input",
    "session-not-found",
    "invalid-input",
]
ENTRIES = [
    ("session.create", {"user": "ada@example.com", "scopes": None}),
    ("session.create", {"user": SUPERUSER, "scopes": ["users:read"]}),
    ("session.revoke", {"user": "ada@example.com"}),
]


async def test_scenario_leaves_the_same_rows_entries_and_codes(
    door: Door, database: asyncpg.Connection, client: httpx2.AsyncClient
) -> None:
    await door.do("create-user", "ada@example.com", no_password=True)
    await door.do("create-user", "bob@example.com", no_password=True)
    await door.do("deactivate-user", "bob@example.com")
    answers = [
        await door.do("create-token", "Ada@example.com", label="laptop"),
        await door.do("create-token", "carol@example.com"),
        await door.do("create-token", "bob@example.com"),
        await door.do("create-token", SUPERUSER, scope="users:read"),
        await door.do("create-token", "ada@example.com", scope="users:read"),
        await door.do("create-token", "ada@example.com", scope="users:everything"),
        await door.do("create-token", "ada@example.com", expires_in=59),
        await door.do("revoke-token", UNKNOWN),
        await door.do("revoke-token", "ada"),
    ]
    assert [answer.code for answer in answers] == EXPECTED
    issued = answers[0].body
    bearer = {"Authorization": f"Bearer {issued['access_token']}"}
    assert (await client.get("/v1/users/me", headers=bearer)).json()["email"] == "ada@example.com"

    listed = (await door.do("list-tokens", "ada@example.com")).body
    assert [(token["id"], token["label"], token["is_live"]) for token in listed["items"]] == [
        (issued["session_id"], "laptop", True)
    ]
    ended = [await door.do("revoke-token", issued["session_id"]) for _ in range(2)]
    assert [(answer.code, answer.body["is_live"]) for answer in ended] == [(None, False)] * 2
    assert (await client.get("/v1/users/me", headers=bearer)).json()["code"] == "invalid-token"
    form = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"]}
    assert (await client.post("/v1/auth/token", data=form)).json()["error"] == "invalid_grant"

    entries = await database.fetch(
        "SELECT * FROM audit_entries WHERE target = 'session' AND action <> 'session.login' ORDER BY at, id"
    )
    assert [(entry["action"], json.loads(entry["detail"])) for entry in entries] == ENTRIES
    assert {entry["door"] for entry in entries} == {door.name}


async def test_a_narrowed_token_can_do_no_more(door: Door, client: httpx2.AsyncClient) -> None:
    issued = (await door.do("create-token", SUPERUSER, scope="users:read")).body
    assert issued["scope"] == "users:read"
    bearer = {"Authorization": f"Bearer {issued['access_token']}"}
    assert (await client.get("/v1/users", headers=bearer)).status_code == 200
    refused = await client.post("/v1/users", headers=bearer, json={"email": "eve@example.com"})
    assert (refused.status_code, refused.json()["code"]) == (403, "missing-scope")
    assert "users:write" in refused.json()["detail"]
    await door.do("create-user", "second@example.com", superuser=True, no_password=True)
    await door.do("demote-user", SUPERUSER)
    # The other client of the HTTP door lost its powers as well; what the token could do is what its owner can.
    assert (await client.get("/v1/users", headers=bearer)).status_code == 403
