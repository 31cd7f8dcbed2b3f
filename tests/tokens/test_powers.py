"""A narrowed token stays narrowed: none of what it may do makes it more than it is."""

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import jwt
import pytest
from fastapi import FastAPI

from api.core.actor import ALL_SCOPES, Scope
from api.signing_keys import crud as signing_keys
from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER, log_in, signed_in

NEW = "five other unrelated words"


async def bearer(admin: httpx2.AsyncClient, *scopes: str) -> dict[str, str]:
    answer = await admin.post("/v1/tokens", json={"user": SUPERUSER, "scopes": list(scopes)})
    assert answer.status_code == 201
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.mark.parametrize("lacking", sorted(ALL_SCOPES))
async def test_whoever_lacks_one_scope_cannot_take_it(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient, lacking: Scope
) -> None:
    """Also not by way of the account that the token belongs to."""
    await admin.post("/v1/users", json={"email": "ada@example.com", "password": PASSWORD})
    second = {"email": "second@example.com", "password": PASSWORD}
    await admin.post("/v1/users", params={"is_superuser": True}, json=second)
    narrowed = await bearer(admin, *(ALL_SCOPES - {lacking}))
    for method, path, body in (
        ("POST", "/v1/users?is_superuser=true", {"email": "eve@example.com", "password": NEW}),
        ("POST", "/v1/users/ada@example.com/promote", None),
        ("POST", f"/v1/users/{SUPERUSER}/demote", None),
        *(
            (method, path.format(email), body)
            for email in (SUPERUSER, "second@example.com")
            for method, path, body in (
                ("PUT", "/v1/users/{}/password", {"password": NEW}),
                ("PATCH", "/v1/users/{}", {"email": "eve@example.com"}),
                ("POST", "/v1/users/{}/deactivate", None),
                ("DELETE", "/v1/users/{}", None),
            )
        ),
        ("POST", "/v1/tokens", {"user": SUPERUSER}),
        ("POST", "/v1/tokens", {"user": "second@example.com"}),
        ("POST", "/v1/tokens", {"user": SUPERUSER, "scopes": [lacking]}),
    ):
        answer = await client.request(method, path, headers=narrowed, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope"), (method, path)


async def test_what_a_scope_is_for_it_allows(admin: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    await admin.post("/v1/users", json={"email": "ada@example.com", "password": PASSWORD})
    for scopes, method, path, body in (
        (("users:read",), "GET", "/v1/users", None),
        (("users:write",), "PATCH", "/v1/users/ada@example.com", {"full_name": "Ada"}),
        (("users:write",), "POST", "/v1/users", {"email": "bob@example.com"}),
        (("users:write",), "PUT", "/v1/users/ada@example.com/password", {"password": NEW}),
        (("tokens:write",), "POST", "/v1/tokens", {"user": "ada@example.com"}),
        (("tokens:read",), "GET", "/v1/tokens", None),
        (("migrations:read",), "GET", "/v1/migrations", None),
        (("migrations:run", "migrations:read"), "POST", "/v1/migrations/upgrade", None),
        (("users:delete",), "DELETE", "/v1/users/ada@example.com", None),
    ):
        answer = await client.request(method, path, headers=await bearer(admin, *scopes), json=body)
        assert answer.is_success, (scopes, method, path, answer.text)


async def test_a_narrowed_token_is_not_its_owner(admin: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    own = (await admin.get("/v1/tokens")).json()["items"][0]["id"]
    narrowed = await bearer(admin, "migrations:read")
    for method, path, body in (
        ("PATCH", "/v1/users/me", {"full_name": "Eve"}),
        ("PUT", "/v1/users/me/password", {"current_password": PASSWORD, "new_password": NEW}),
        ("GET", "/v1/tokens", None),
        ("GET", f"/v1/explain?user={SUPERUSER}&can=users:read", None),
    ):
        answer = await client.request(method, path, headers=narrowed, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope"), (method, path)
    assert (await client.delete(f"/v1/tokens/{own}", headers=narrowed)).status_code == 404
    # What it hangs on it may end.
    assert (await client.post("/v1/auth/logout", headers=narrowed)).status_code == 204
    assert (await client.get("/v1/migrations", headers=narrowed)).status_code == 401


@pytest.mark.parametrize("taken", ["demote", "deactivate", "session"])
async def test_powers_taken_while_a_hash_is_computed_count(
    app: FastAPI, admin: httpx2.AsyncClient, client: httpx2.AsyncClient, database: asyncpg.Connection, taken: str
) -> None:
    """The request is in the hashing queue, which we hold, when its asker loses what it needs."""
    second = {"email": "second@example.com", "password": PASSWORD}
    await admin.post("/v1/users", params={"is_superuser": True}, json=second)
    tokens = await log_in(client, "second@example.com")
    bearing = {"Authorization": f"Bearer {tokens['access_token']}"}
    passwords = app.state.runtime.passwords
    turns = [passwords._turn() for _ in range(passwords.threads)]
    for turn in turns:
        await turn.__aenter__()
    asked = asyncio.create_task(client.put(f"/v1/users/{SUPERUSER}/password", headers=bearing, json={"password": NEW}))
    while not passwords.waiting:
        await asyncio.sleep(0)
    before = await database.fetchval("SELECT password_hash FROM users WHERE email = $1", SUPERUSER)
    path = f"/v1/tokens/{tokens['session_id']}" if taken == "session" else f"/v1/users/second@example.com/{taken}"
    assert (await admin.request("DELETE" if taken == "session" else "POST", path)).status_code == 200
    for turn in turns:
        await turn.__aexit__(None, None, None)
    assert (await asked).status_code == (403 if taken == "demote" else 401)
    assert await database.fetchval("SELECT password_hash FROM users WHERE email = $1", SUPERUSER) == before


async def test_a_session_that_a_lesser_actor_made_does_not_grow_with_its_owner(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    """Otherwise they would keep it until somebody makes its owner more than they are themselves."""
    await admin.post("/v1/users", json={"email": "ada@example.com"})
    lesser = await bearer(admin, "tokens:write")
    made = (await client.post("/v1/tokens", json={"user": "ada@example.com"}, headers=lesser)).json()
    await admin.post("/v1/roles", json={"name": "reader", "scopes": ["users:read"]})
    await admin.put("/v1/users/ada@example.com/roles/reader")
    form = {"grant_type": "refresh_token", "refresh_token": made["refresh_token"]}
    refreshed = (await client.post("/v1/auth/token", data=form)).json()
    for token in (made["access_token"], refreshed["access_token"]):
        answer = await client.get("/v1/users", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 403
    # One that a superuser makes does: they may do it all anyway.
    made = (await admin.post("/v1/tokens", json={"user": "ada@example.com"})).json()
    await admin.patch("/v1/roles/reader", json={"scopes": ["users:read", "roles:read"]})
    headers = {"Authorization": f"Bearer {made['access_token']}"}
    assert (await client.get("/v1/roles", headers=headers)).status_code == 200


@pytest.mark.parametrize(("scopes", "claimed"), [(None, None), (["users:read"], "users:read"), ([], "")])
async def test_whoever_verifies_a_token_elsewhere_sees_that_it_was_narrowed(
    admin: httpx2.AsyncClient, scopes: list[str] | None, claimed: str | None
) -> None:
    """RFC 9068, section 2.2.3."""
    made = (await admin.post("/v1/tokens", json={"user": SUPERUSER, "scopes": scopes})).json()
    claims = jwt.decode(made["access_token"], options={"verify_signature": False})
    assert claims.get("scope") == claimed
    assert (await admin.get("/v1/users/me", headers={"Authorization": f"Bearer {made['access_token']}"})).is_success


@pytest.mark.parametrize("what", ["user", "signing key"])
async def test_whoever_is_deactivated_while_something_is_waited_for_does_it_no_more(
    app: FastAPI, admin: httpx2.AsyncClient, client: httpx2.AsyncClient, database: asyncpg.Connection, what: str
) -> None:
    """A hash, or a lock, that takes its time: the requests under way must not outlive the power to make them."""
    second = (await admin.post("/v1/users?is_superuser=true", json={"email": "second@example.com"})).json()
    token, _ = await signed_in(app, UUID(second["id"]))
    headers = {"Authorization": f"Bearer {token}"}
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def held(*arguments: Any, **options: Any) -> Any:
        entered.set()
        await go_on.wait()
        return await original(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        if what == "user":
            original = app.state.runtime.passwords.hash
            patch.setattr("api.core.passwords.Passwords.hash", lambda _, *rest, **more: held(*rest, **more))
            new = {"email": "backdoor@example.com", "password": PASSWORD}
            asked = client.post("/v1/users?is_superuser=true", json=new, headers=headers)
        else:
            original = signing_keys.lock
            patch.setattr(signing_keys, "lock", held)
            asked = client.post("/v1/signing-keys", headers=headers)
        under_way = asyncio.create_task(asked)
        await entered.wait()
        await database.execute("UPDATE users SET is_active = false WHERE email = 'second@example.com'")
        go_on.set()
        answer = await under_way
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid-token")
    assert await database.fetchval("SELECT count(*) FROM users WHERE email = 'backdoor@example.com'") == 0
    assert await database.fetchval("SELECT count(*) FROM signing_keys") == 1


async def test_what_is_made_by_what_ends_ends_with_it(client: httpx2.AsyncClient, admin: httpx2.AsyncClient) -> None:
    """Also by a session that a key made, which ends with the key."""
    new = {"user": SUPERUSER, "name": "x", "scopes": sorted(ALL_SCOPES), "expires_in": 600}
    shown = (await admin.post("/v1/api-keys", json=new)).json()["key"]
    ends = []
    for _ in range(3):
        asked = {"user": SUPERUSER, "expires_in": 86400}
        made = (await client.post("/v1/tokens", json=asked, headers={"Authorization": f"Bearer {shown}"})).json()
        shown = made["access_token"]
        (session,) = [one for one in (await admin.get("/v1/tokens")).json()["items"] if one["id"] == made["session_id"]]
        ends.append(session["expires_at"])
    keys = (await admin.get("/v1/api-keys")).json()["items"]
    assert ends == [keys[0]["expires_at"]] * 3


async def test_a_key_makes_no_session_that_is_not_narrowed(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, superuser: User
) -> None:
    """Not even one that may do everything: a session of a person's own lets devices in, a key does not."""
    key = (await admin.post("/v1/api-keys", json={"user": SUPERUSER, "name": "x", "scopes": sorted(ALL_SCOPES)})).json()
    bearing = {"Authorization": f"Bearer {key['key']}"}
    made = (await client.post("/v1/tokens", json={"user": SUPERUSER}, headers=bearing)).json()
    device = (await client.post("/v1/auth/device")).json()["user_code"]
    asking = {"Authorization": f"Bearer {made['access_token']}"}
    assert (await client.post(f"/v1/devices/{device}/approve", headers=asking)).status_code == 403
