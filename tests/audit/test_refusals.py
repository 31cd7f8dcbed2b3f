"""Who was refused: logins, of those whom we know and of others, and changes for lack of a scope; at both doors."""

import asyncio
import json
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pyotp
from fastapi import FastAPI

from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER, SUPERUSER_ID, signed_in
from tests.support.processes import Apictl
from tests.support.statements import statements

REFUSED = "SELECT * FROM audit_entries WHERE outcome = 'refused' ORDER BY at, id"


async def refusals(database: asyncpg.Connection) -> list[dict[str, Any]]:
    """Return what was written down of refusals."""
    return [dict(row) | {"detail": json.loads(row["detail"])} for row in await database.fetch(REFUSED)]


async def test_a_refused_login_is_written_down_alike_for_everybody(
    app: FastAPI, client: httpx2.AsyncClient, superuser: User, database: asyncpg.Connection
) -> None:
    """The same statements for whom we know and whom we do not; and what was typed for an address is kept nowhere."""
    sent = []
    for username in (SUPERUSER, "nobody@example.com", "my password, typed into the wrong field"):
        form = {"grant_type": "password", "username": username, "password": "wrong"}
        with statements(app) as asked:
            answer = await client.post("/v1/auth/token", data=form)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
        sent.append([one.text for one in asked])
    assert sent[0] == sent[1] == sent[2]
    found = await refusals(database)
    assert [one["target_id"] for one in found] == [SUPERUSER_ID, None, None]
    assert {(one["actor"], one["action"], one["target"], one["door"]) for one in found} == {
        ("nobody", "session.login", "user", "http")
    }
    assert all(set(one["detail"]) == {"address"} and one["request_id"] for one in found)
    assert "wrong field" not in str(found)
    with statements(app) as asked:
        answer = await client.post(
            "/v1/auth/token", data={"grant_type": "password", "username": SUPERUSER, "password": PASSWORD}
        )
    # A login that succeeds: an attempt is taken, and given back; who it is, and the session.
    assert (answer.status_code, len(asked)) == (200, 4)


async def test_a_wrong_second_factor_is_written_down(
    app: FastAPI, client: httpx2.AsyncClient, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    secret = (await admin.post("/v1/users/me/factors/totp", json={"current_password": PASSWORD})).json()
    otp = pyotp.TOTP(secret["secret"]).now()
    assert (await admin.post(f"/v1/users/me/factors/{secret['id']}/confirm", json={"otp": otp})).status_code == 200
    form = {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD, "otp": "000000"}
    assert (await client.post("/v1/auth/token", data=form)).json()["error"] == "invalid_grant"
    (found,) = await refusals(database)
    assert (found["target_id"], found["detail"]["by"]) == (SUPERUSER_ID, "second factor")
    # A right password, and nothing more: somebody has it who has not the app.
    del form["otp"]
    assert (await client.post("/v1/auth/token", data=form)).json()["error"] == "mfa_required"
    known = await database.fetch("SELECT * FROM audit_entries WHERE action = 'session.challenge'")
    assert [(row["actor"], row["target_id"]) for row in known] == [("nobody", SUPERUSER_ID)] * 2


async def test_a_missing_scope_is_written_down_at_both_doors(
    apictl: Apictl,
    environment: dict[str, str],
    app: FastAPI,
    admin: httpx2.AsyncClient,
    client: httpx2.AsyncClient,
    database: asyncpg.Connection,
) -> None:
    """Once a minute for each operation; what is only read, or only tried, leaves nothing."""
    found: list[dict[str, Any]] = []
    for name in ("ada", "bob"):
        made = (await admin.post("/v1/users", json={"email": f"{name}@example.com"})).json()["id"]
        bearer = {"Authorization": f"Bearer {(await signed_in(app, UUID(made)))[0]}"}
        new = {"email": "eve@example.com"}
        as_user = ("--as", f"{name}@example.com")
        for _ in range(3):
            if name == "ada":
                answer = await client.post("/v1/users", json=new, headers=bearer)
                assert answer.status_code == 403
                assert (await client.get("/v1/users", headers=bearer)).status_code == 403
                tried = bearer | {"Prefer": "dry-run"}
                role = {"name": "x", "scopes": []}
                assert (await client.post("/v1/roles", json=role, headers=tried)).status_code == 403
            else:
                for line in (
                    ("create-user", "eve@example.com", "--no-password"),
                    ("list-users",),
                    ("create-role", "x", "--dry-run"),
                ):
                    assert (await apictl(*line, *as_user, environment=environment)).code == 4
        found.append((await refusals(database))[-1])
        assert len(await refusals(database)) == len(found)
        assert found[-1]["actor_user_id"] == UUID(made)
    same = ("action", "target", "target_id", "outcome", "detail", "api_key_id")
    assert [found[0][key] for key in same] == [found[1][key] for key in same]
    assert found[0]["detail"] == {"operation": "create_user", "reason": "This needs the scope users:write"}
    assert [one["door"] for one in found] == ["http", "cli"]
    assert found[1]["actor"].startswith("operator:")
    # Another operation is another matter, and so is the next minute.
    promote = ("promote-user", SUPERUSER, "--as", "bob@example.com")
    assert (await apictl(*promote, environment=environment)).code == 4
    assert len(await refusals(database)) == 3
    assert (await admin.post("/v1/audit/verification")).status_code == 200


async def test_a_wrong_current_password_is_written_down(
    admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    """As a login would be: it is the same guess."""
    for _ in range(2):
        given = {"current_password": "wrong", "new_password": "five other unrelated words"}
        assert (await admin.put("/v1/users/me/password", json=given)).json()["code"] == "wrong-password"
    given = {"current_password": "wrong", "email": "other@example.com"}
    assert (await admin.put("/v1/users/me/email", json=given)).json()["code"] == "wrong-password"
    reason = "The current password is not right"
    assert [(one["action"], one["actor_user_id"], one["detail"]) for one in await refusals(database)] == [
        ("access.refuse", SUPERUSER_ID, {"operation": "change_my_password", "reason": reason}),
        ("access.refuse", SUPERUSER_ID, {"operation": "change_my_email", "reason": reason}),
    ]


async def test_an_import_that_is_refused(
    apictl: Apictl, environment: dict[str, str], admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    await admin.post("/v1/users", json={"email": "ada@example.com"})
    line = ("import-users", "-", "--as", "ada@example.com")
    ended = await asyncio.gather(*(apictl(*line, environment=environment, stdin="email\n") for _ in range(2)))
    assert {one.code for one in ended} == {4}
    assert {one["detail"]["operation"] for one in await refusals(database)} == {"import_users"}
