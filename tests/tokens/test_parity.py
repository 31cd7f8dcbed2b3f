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


async def test_every_session_of_a_user_but_one(
    door: Door, database: asyncpg.Connection, client: httpx2.AsyncClient
) -> None:
    await door.do("create-user", "ada@example.com", no_password=True)
    made = [(await door.do("create-token", "ada@example.com")).body for _ in range(4)]
    others = (await door.do("create-token", SUPERUSER)).body
    for keep, code in (
        (others["session_id"], "session-not-found"),
        (UNKNOWN, "session-not-found"),
        ("x", "invalid-input"),
    ):
        assert (await door.do("revoke-tokens", "ada@example.com", keep=keep)).code == code
    assert (await door.do("revoke-tokens", "carol@example.com")).code == "user-not-found"
    kept = made[1]["session_id"]
    for count in (3, 0):
        ended = (await door.do("revoke-tokens", "ada@example.com", keep=kept)).body
        assert (ended["user"], ended["kept"], ended["revoked"]) == ("ada@example.com", kept, count)
    live = (await door.do("list-tokens", "ada@example.com", live=True)).body["items"]
    assert [token["id"] for token in live] == [kept]
    for tokens in made:
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        expected = 200 if tokens["session_id"] == kept else 401
        assert (await client.get("/v1/users/me", headers=bearer)).status_code == expected
    assert (await door.do("revoke-tokens", "ada@example.com")).body["revoked"] == 1
    entries = await database.fetch("SELECT * FROM audit_entries WHERE action = 'session.revoke_all' ORDER BY at, id")
    assert [json.loads(entry["detail"]) for entry in entries] == [
        {"user": "ada@example.com", "kept": kept, "revoked": 3},
        {"user": "ada@example.com", "kept": None, "revoked": 1},
    ]


async def test_a_session_s_use_is_noted_once_a_minute(as_ada: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    used = "SELECT last_used_at FROM sessions s JOIN users u ON u.id = s.user_id WHERE u.email = 'ada@example.com'"
    begun = await database.fetchval(used)
    await as_ada.get("/v1/users/me")
    assert await database.fetchval(used) == begun
    await database.execute("UPDATE sessions SET last_used_at = now() - interval '61 seconds'")
    for _ in range(2):
        assert (await as_ada.get("/v1/users/me")).status_code == 200
    assert await database.fetchval(used) > begun


async def test_one_s_own_sessions(as_ada: httpx2.AsyncClient, admin: httpx2.AsyncClient) -> None:
    others = [(await admin.post("/v1/tokens", json={"user": "ada@example.com"})).json() for _ in range(2)]
    narrowed = (await admin.post("/v1/tokens", json={"user": "ada@example.com", "scopes": []})).json()
    headers = {"Authorization": f"Bearer {narrowed['access_token']}"}
    assert (await as_ada.delete("/v1/tokens", headers=headers)).status_code == 403
    listed = (await as_ada.get("/v1/tokens", params={"live": True})).json()["items"]
    (mine,) = {token["id"] for token in listed} - {one["session_id"] for one in (*others, narrowed)}
    assert (await as_ada.delete("/v1/tokens", params={"keep": mine})).json()["revoked"] == 3
    assert (await as_ada.delete("/v1/tokens")).json()["revoked"] == 1
    assert (await as_ada.get("/v1/users/me")).status_code == 401
