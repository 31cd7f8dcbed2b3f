"""The OAuth endpoints by their RFCs, asked as their clients ask."""

import base64
import json
import time
from typing import Any, Final

import asyncpg
import httpx2
import jwt
import pytest
from fastapi import FastAPI

from api.tokens.keys import LEEWAY
from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER, log_in

GRANT: Final = {"grant_type": "client_credentials"}


@pytest.fixture
async def key(admin: httpx2.AsyncClient) -> dict[str, Any]:
    """An API key of the service account `deploy`, whose role reads users and asks about tokens."""
    scopes = ["users:read", "tokens:introspect"]
    await admin.post("/v1/roles", json={"name": "deployer", "scopes": scopes})
    await admin.post("/v1/service-accounts", json={"name": "deploy", "roles": ["deployer"]})
    answer = await admin.post("/v1/api-keys", json={"user": "deploy", "name": "x", "scopes": scopes})
    made: dict[str, Any] = answer.raise_for_status().json()
    return made


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def introspected(client: httpx2.AsyncClient, key: dict[str, Any], token: str) -> dict[str, Any]:
    form = {"token": token}
    answer = (await client.post("/v1/auth/introspect", data=form, headers=basic("deploy", key["key"]))).json()
    found: dict[str, Any] = answer
    return found


@pytest.mark.parametrize("how", ["basic", "post", "id"])
async def test_client_credentials(client: httpx2.AsyncClient, key: dict[str, Any], how: str) -> None:
    named = {"client_id": key["user_id"] if how == "id" else "deploy", "client_secret": key["key"]}
    if how == "basic":
        answer = await client.post("/v1/auth/token", data=GRANT, headers=basic("deploy", key["key"]))
    else:
        answer = await client.post("/v1/auth/token", data=GRANT | named)
    assert answer.status_code == 200, answer.text
    issued = answer.json()
    assert set(issued) == {"access_token", "token_type", "expires_in", "scope"}
    assert (issued["scope"], answer.headers["Cache-Control"]) == ("tokens:introspect users:read", "no-store")
    claims = jwt.decode(issued["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["client_id"], claims["api_key"]) == (key["user_id"], "deploy", key["id"])
    assert (await client.get("/v1/users", headers=bearer(issued["access_token"]))).status_code == 200


async def test_a_client_s_token_may_be_narrower(client: httpx2.AsyncClient, key: dict[str, Any]) -> None:
    asked = GRANT | {"scope": "users:read users:write", "client_id": "deploy", "client_secret": key["key"]}
    issued = (await client.post("/v1/auth/token", data=asked)).json()
    assert issued["scope"] == "users:read"
    headers = bearer(issued["access_token"])
    assert (await client.get("/v1/users", headers=headers)).status_code == 200
    refused = await client.post("/v1/auth/introspect", data={"token": "x"}, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "missing-scope")


@pytest.mark.parametrize("ending", ["revoke", "deactivate", "role", "network", "expiry"])
async def test_a_client_s_token_ends_with_its_key(
    client: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    key: dict[str, Any],
    ending: str,
    database: asyncpg.Connection,
) -> None:
    form = GRANT | {"client_id": "deploy", "client_secret": key["key"]}
    headers = bearer((await client.post("/v1/auth/token", data=form)).json()["access_token"])
    assert (await client.get("/v1/users", headers=headers)).status_code == 200
    expected = 401
    if ending == "revoke":
        await admin.delete(f"/v1/api-keys/{key['id']}")
    elif ending == "deactivate":
        await admin.post("/v1/users/deploy/deactivate")
    elif ending == "role":
        await admin.delete("/v1/users/deploy/roles/deployer")
        expected = 403
    elif ending == "network":
        await database.execute("UPDATE api_keys SET networks = '{192.0.2.0/24}'")
    else:
        await database.execute("UPDATE api_keys SET expires_at = now()")
    assert (await client.get("/v1/users", headers=headers)).status_code == expected


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("deploy", "{key}x"),
        ("deploy", "apictl_key_" + "0" * 71),
        ("deploy", ""),
        ("deploy", "{access}"),
        ("other", "{key}"),
        ("", "{key}"),
        (SUPERUSER, "{key}"),
        ("dep\x00loy", "{key}"),
        ("deploy", "\ud800"),
    ],
)
async def test_a_client_that_is_not_itself(
    client: httpx2.AsyncClient, superuser: User, key: dict[str, Any], name: str, secret: str
) -> None:
    access = (await log_in(client, SUPERUSER))["access_token"] if "{access}" in secret else ""
    filled = secret.format(key=key["key"], access=access)
    raw = base64.b64encode(f"{name}:{filled}".encode("utf-8", "surrogatepass")).decode()
    for path, form in (("/v1/auth/token", GRANT), ("/v1/auth/introspect", {"token": "x"})):
        answer = await client.post(path, data=form, headers={"Authorization": f"Basic {raw}"})
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="apictl"'
        assert (answer.json()["error"], answer.json()["code"]) == ("invalid_client", "invalid-client")


@pytest.mark.parametrize("header", ["Basic", "Basic !", "Basic eA==", "Basic \u00e9"])
async def test_a_header_that_cannot_be_read(client: httpx2.AsyncClient, header: str) -> None:
    answer = await client.post("/v1/auth/token", data=GRANT, headers=[(b"Authorization", header.encode())])
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid-client")


@pytest.mark.parametrize("place", ["basic", "form"])
async def test_a_client_that_shows_a_secret_is_checked_whatever_it_asks_for(
    client: httpx2.AsyncClient, superuser: User, key: dict[str, Any], place: str
) -> None:
    """RFC 6749, section 3.2.1: also where none would be needed."""
    issued = await log_in(client, SUPERUSER)
    forms = [
        ("/v1/auth/token", {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD}),
        ("/v1/auth/token", {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"]}),
        ("/v1/auth/device", {}),
        ("/v1/auth/revoke", {"token": issued["refresh_token"]}),
    ]
    wrong = key["key"][:-1] + ("y" if key["key"][-1] == "x" else "x")
    for secret, expected in ((wrong, 401), ("", 200), (key["key"], 200)):
        for path, form in forms:
            shown = basic("deploy", secret) if place == "basic" else {}
            filled = form if shown else form | {"client_id": "deploy", "client_secret": secret}
            answer = await client.post(path, data=filled, headers=shown)
            if path == "/v1/auth/revoke" and expected == 200:
                issued = await log_in(client, SUPERUSER)
                forms[1][1]["refresh_token"] = forms[3][1]["token"] = issued["refresh_token"]
            assert answer.status_code == expected, f"{path} {secret}: {answer.text}"
            assert (
                answer.json().get("error") == ("invalid_client" if expected == 401 else None) if answer.text else True
            )
    twice = GRANT | {"client_id": "deploy", "client_secret": key["key"]}
    refused = await client.post("/v1/auth/token", data=twice, headers=basic("deploy", key["key"]))
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")


FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("token", "username"),
        ("passkey", "mfa_token"),
        ("device", "scope"),
        ("revoke", "token"),
        ("introspect", "token"),
    ],
)
async def test_a_form_that_cannot_be_read(admin: httpx2.AsyncClient, path: str, field: str) -> None:
    """RFC 6749, sections 3.2 and 5.2: 400, with `error`; no parameter is there twice."""
    for content, headers in (
        (f"{field}=a&{field}=b", FORM),
        (f"other=a&{field}=a&other=b", FORM),
        (f"{field}=" + "x" * 8193, FORM),
        ("x", {"Content-Type": "multipart/form-data"}),
        (
            f'--x\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n\u00ff\r\n--x--\r\n',
            {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"},
        ),
    ):
        answer = await admin.post(f"/v1/auth/{path}", content=content, headers=headers)
        said = answer.json()
        assert (answer.status_code, said["code"]) == (400, "invalid-request"), (content[:60], said)
        assert (said["error"], said["error_description"]) == ("invalid_request", said["detail"])


async def test_a_person_s_key_is_no_client_s(client: httpx2.AsyncClient, admin: httpx2.AsyncClient) -> None:
    made = (await admin.post("/v1/api-keys", json={"user": SUPERUSER, "name": "x"})).json()
    answer = await client.post("/v1/auth/token", data=GRANT, headers=basic(SUPERUSER, made["key"]))
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


async def test_introspection(
    client: httpx2.AsyncClient, superuser: User, key: dict[str, Any], database: asyncpg.Connection
) -> None:
    tokens = await log_in(client, SUPERUSER)
    found = await introspected(client, key, tokens["access_token"])
    assert (found["active"], found["username"], found["sub"]) == (True, SUPERUSER, str(superuser.id))
    assert (found["token_type"], found["iss"], found["aud"]) == ("Bearer", *["http://localhost:8000"] * 2)
    assert abs(found["exp"] - time.time() - 900) < 60
    refresh = await introspected(client, key, tokens["refresh_token"])
    assert (refresh["active"], "token_type" in refresh, refresh["exp"] > found["exp"]) == (True, False, True)
    itself = await introspected(client, key, key["key"])
    assert (itself["username"], itself["scope"]) == ("deploy", "tokens:introspect users:read")
    # Who it was issued to: a service account is a client by itself, a person had the one that all have.
    got = await client.post("/v1/auth/token", data=GRANT, headers=basic("deploy", key["key"]))
    for one, issued_to in (
        (got.json()["access_token"], "deploy"),
        (key["key"], "deploy"),
        (tokens["access_token"], "apictl"),
        (tokens["refresh_token"], "apictl"),
    ):
        assert (await introspected(client, key, one))["client_id"] == issued_to
    # The same for whoever has the scope, and sends a bearer token.
    form = {"token": tokens["access_token"], "token_type_hint": "refresh_token"}
    for headers in (bearer(key["key"]), bearer(tokens["access_token"])):
        answer = await client.post("/v1/auth/introspect", data=form, headers=headers)
        assert (answer.json(), answer.headers["Cache-Control"]) == (found, "no-store")
    await database.execute("UPDATE sessions SET revoked_at = now()")
    for token in (tokens["access_token"], tokens["refresh_token"]):
        assert await introspected(client, key, token) == {"active": False}


@pytest.mark.parametrize("token", ["x", "\x00", "apictl_key_" + "0" * 71, "apictl_rt_" + "A" * 71, "a.b.c", "\ud83d"])
async def test_what_is_good_for_nothing_says_so_and_no_more(
    client: httpx2.AsyncClient, key: dict[str, Any], token: str
) -> None:
    form = b"token=" + "".join(f"%{byte:02X}" for byte in token.encode("utf-8", "surrogatepass")).encode()
    for path, expected in (("/v1/auth/introspect", {"active": False}), ("/v1/auth/revoke", None)):
        headers = basic("deploy", key["key"]) | {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await client.post(path, content=form, headers=headers)
        assert answer.status_code == 200, answer.text
        assert (answer.json() if answer.content else None) == expected


async def test_what_else_is_inactive(
    client: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    superuser: User,
    key: dict[str, Any],
    database: asyncpg.Connection,
    app: FastAPI,
) -> None:
    tokens = await log_in(client, SUPERUSER)
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert (await client.post("/v1/auth/token", data=form)).status_code == 200
    used_up = await introspected(client, key, tokens["refresh_token"])
    bound = {"user": "deploy", "name": "x", "networks": ["0.0.0.0/0"]}
    elsewhere = await introspected(client, key, (await admin.post("/v1/api-keys", json=bound)).json()["key"])
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    session_id = await database.fetchval("SELECT id FROM sessions WHERE id::text = $1", claims["sid"])
    expired = app.state.keys.sign(user_id=superuser.id, session_id=session_id, ttl=-LEEWAY - 1)
    assert [used_up, elsewhere, await introspected(client, key, expired)] == [{"active": False}] * 3


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
async def test_whoever_holds_a_token_ends_it(
    client: httpx2.AsyncClient, superuser: User, database: asyncpg.Connection, which: str
) -> None:
    tokens = await log_in(client, SUPERUSER)
    for _ in range(2):
        answer = await client.post("/v1/auth/revoke", data={"token": tokens[which], "client_id": "apictl"})
        assert (answer.status_code, answer.content) == (200, b"")
    assert (await client.get("/v1/users/me", headers=bearer(tokens["access_token"]))).status_code == 401
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert (await client.post("/v1/auth/token", data=form)).json()["error"] == "invalid_grant"
    (entry,) = await database.fetch("SELECT * FROM audit_entries WHERE action = 'session.revoke'")
    assert (entry["actor"], entry["door"]) == (SUPERUSER, "http")
    assert json.loads(entry["detail"])["user"] == SUPERUSER


async def test_whoever_finds_an_api_key_ends_it(
    client: httpx2.AsyncClient, key: dict[str, Any], database: asyncpg.Connection
) -> None:
    form = GRANT | {"client_id": "deploy", "client_secret": key["key"]}
    access = (await client.post("/v1/auth/token", data=form)).json()["access_token"]
    alone = await client.post("/v1/auth/revoke", data={"token": access})
    assert (alone.status_code, alone.json()["error"]) == (400, "unsupported_token_type")
    for _ in range(2):
        assert (await client.post("/v1/auth/revoke", data={"token": key["key"]})).status_code == 200
    assert (await client.get("/v1/users", headers=bearer(access))).status_code == 401
    assert await database.fetchval("SELECT count(*) FROM audit_entries WHERE action = 'api_key.revoke'") == 1


async def test_metadata(client: httpx2.AsyncClient) -> None:
    """Everything that it names is there."""
    found = (await client.get("/.well-known/oauth-authorization-server")).json()
    assert found["issuer"] == "http://localhost:8000"
    for name, value in found.items():
        if name.endswith(("_endpoint", "_uri", "_documentation")):
            path = value.removeprefix(found["issuer"])
            assert (await client.get(path)).status_code in {200, 405}, name
    for grant_type in found["grant_types_supported"]:
        answer = await client.post("/v1/auth/token", data={"grant_type": grant_type})
        assert answer.json()["error"] in {"invalid_request", "invalid_client"}, grant_type


async def test_a_token_that_was_got_for_a_key_is_not_the_key(
    client: httpx2.AsyncClient, superuser: User, key: dict[str, Any]
) -> None:
    """A key may end itself and make its successor; what was narrowed and lives for minutes must not."""
    got = await client.post("/v1/auth/token", data=GRANT | {"scope": "users:read"}, headers=basic("deploy", key["key"]))
    bearing = {"Authorization": f"Bearer {got.json()['access_token']}"}
    for method, path in (("POST", f"/v1/api-keys/{key['id']}/rotate"), ("DELETE", f"/v1/api-keys/{key['id']}")):
        answer = await client.request(method, path, headers=bearing)
        assert (answer.status_code, answer.json()["code"]) == (404, "api-key-not-found")
    itself = {"Authorization": f"Bearer {key['key']}"}
    assert (await client.post(f"/v1/api-keys/{key['id']}/rotate", headers=itself)).status_code == 201


async def test_who_asks_about_a_key_does_not_use_it(
    client: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    superuser: User,
    key: dict[str, Any],
    database: asyncpg.Connection,
) -> None:
    other = (await admin.post("/v1/api-keys", json={"user": SUPERUSER, "name": "x"})).json()
    session = (await admin.post("/v1/tokens", json={"user": SUPERUSER})).json()
    await database.execute("UPDATE sessions SET last_used_at = '2026-01-01'")
    for token in (other["key"], session["access_token"]):
        assert (await introspected(client, key, token))["active"] is True
    assert await database.fetchval("SELECT last_used_at FROM api_keys WHERE id = $1", other["id"]) is None
    used = "SELECT last_used_at = '2026-01-01' FROM sessions WHERE id = $1"
    assert await database.fetchval(used, session["session_id"])
