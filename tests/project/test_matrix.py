"""Row 18: every route, asked by nobody, by a plain user about themselves and about others, and by a superuser.

Generated from the application's routes: one that has no line here fails the build.
"""

from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from tests.cli.test_every_command import rows
from tests.conftest import PASSWORD, signed_in
from tests.support.statements import nodes, plan, statements

ADA, BOB = "ada@example.com", "bob@example.com"
NEW: Final = {"email": "new@example.com"}
RENAME: Final = {"full_name": "Renamed"}
SECRET: Final = {"password": "five other unrelated words"}
CHANGE: Final = {"current_password": PASSWORD, "new_password": "five other unrelated words"}


STATE: Final = {
    "owner": "x",
    "roles": [{"name": "support", "scopes": ["users:read"]}],
    "users": [{"email": BOB, "full_name": "Bob", "roles": ["support"]}],
    "service_accounts": [{"name": "deploy", "api_keys": [{"name": "x"}]}],
}


class Line(NamedTuple):
    """What each asker is told; `own` and `other` are a plain user's answers about themselves and somebody else."""

    nobody: int
    own: int
    other: int
    superuser: int
    body: dict[str, Any] | None = None
    query: dict[str, Any] | None = None


OPEN: Final = Line(200, 200, 200, 200)
SELF: Final = Line(401, 200, 200, 200)
ADMIN: Final = Line(401, 403, 403, 200)
MATRIX: Final[dict[str, Line]] = {
    "live": OPEN,
    "ready": OPEN,
    "token_endpoint": Line(400, 400, 400, 400),
    "end_own_session": Line(401, 204, 204, 204),
    "revoke_by_holder": Line(400, 400, 400, 400),
    "introspect_token": Line(401, 403, 403, 400),
    "server_metadata": OPEN,
    "start_device": OPEN,
    "passkey_options": OPEN,
    "show_device": SELF,
    # Whoever is asked first decides, for good.
    "approve_device": Line(401, 409, 200, 409),
    "deny_device": Line(401, 409, 200, 409),
    "create_token": ADMIN._replace(superuser=201, body={"user": "{user}"}),
    "list_tokens": SELF,
    "revoke_tokens": Line(401, 200, 403, 200, query={"user": "{user}"}),
    "revoke_token": Line(401, 200, 404, 200),
    "create_user": ADMIN._replace(superuser=201, body=NEW),
    "list_users": ADMIN,
    "import_users": ADMIN._replace(superuser=400),
    "export_users": ADMIN,
    "show_me": SELF,
    "update_me": SELF._replace(body=RENAME),
    "change_my_password": SELF._replace(body=CHANGE),
    "show_user": Line(401, 200, 404, 200),
    "update_user": ADMIN._replace(body=RENAME),
    "set_password": ADMIN._replace(body=SECRET),
    "activate_user": ADMIN,
    "deactivate_user": ADMIN,
    "promote_user": ADMIN,
    "demote_user": ADMIN,
    "delete_user": ADMIN,
    "register": Line(202, 202, 202, 202, body={"email": "new@example.com"}),
    "complete_registration": Line(400, 400, 400, 400, body={"token": "x"} | SECRET),
    "forgot_password": Line(202, 202, 202, 202, body={"email": BOB}),
    "reset_password": Line(400, 400, 400, 400, body={"token": "x"} | SECRET),
    "confirm_email": Line(400, 400, 400, 400, body={"token": "x"}),
    "invite_user": ADMIN._replace(superuser=202, body=NEW),
    "verify_my_email": SELF._replace(own=202, other=202, superuser=202),
    "change_my_email": SELF._replace(
        own=202, other=202, superuser=202, body={"email": "new@example.com", "current_password": PASSWORD}
    ),
    "send_reset": ADMIN._replace(superuser=202),
    "verify_email": ADMIN._replace(superuser=202),
    "list_own_factors": SELF,
    "enroll_totp": SELF._replace(own=201, other=201, body={"current_password": PASSWORD}, superuser=201),
    "enroll_passkey": SELF._replace(own=201, other=201, body={"current_password": PASSWORD}, superuser=201),
    "confirm_factor": Line(401, 404, 404, 404, body={"otp": "123456"}),
    "remove_factor": Line(401, 404, 404, 404, body={"current_password": PASSWORD}),
    "new_recovery_codes": Line(401, 404, 404, 404, body={"current_password": PASSWORD}),
    "list_factors": Line(401, 200, 404, 200),
    "reset_factors": ADMIN,
    "create_service_account": ADMIN._replace(superuser=201, body={"name": "deploy"}),
    "list_service_accounts": ADMIN,
    "create_api_key": Line(401, 201, 403, 201, body={"user": "{user}", "name": "x"}),
    "list_api_keys": SELF,
    "rotate_api_key": Line(401, 201, 404, 201),
    "revoke_api_key": Line(401, 200, 404, 200),
    "jwks": OPEN,
    "list_keys": ADMIN,
    "rotate_keys": ADMIN._replace(superuser=201),
    "retire_key": ADMIN,
    "plan": ADMIN._replace(body=STATE),
    "apply": ADMIN._replace(body=STATE),
    "export_state": ADMIN._replace(query={"owner": "x"}),
    "create_role": ADMIN._replace(superuser=201, body={"name": "other", "scopes": []}),
    "list_roles": ADMIN,
    "show_role": ADMIN,
    "update_role": ADMIN._replace(body={"description": "x"}),
    "delete_role": ADMIN,
    "grant_role": ADMIN,
    "revoke_role": ADMIN,
    "explain": Line(401, 200, 404, 200, query={"user": "{user}", "can": "users:read"}),
    "migration_status": ADMIN,
    "migrate": ADMIN,
    "migration_history": ADMIN,
    "list_audit": ADMIN,
    "export_audit": ADMIN,
    "verify_audit": ADMIN,
    "doctor": ADMIN,
}


# Statements of a superuser's request, at most: one more is noticed here.
STATEMENTS: Final = {
    "live": 0,
    "ready": 2,
    "token_endpoint": 0,
    "end_own_session": 4,
    "revoke_by_holder": 0,
    "introspect_token": 1,
    "server_metadata": 0,
    "start_device": 3,
    "passkey_options": 0,
    "show_device": 3,
    "approve_device": 6,
    "deny_device": 6,
    "create_token": 5,
    "list_tokens": 2,
    "revoke_tokens": 7,
    "revoke_token": 4,
    "create_user": 3,
    "list_users": 2,
    "import_users": 1,
    "export_users": 2,
    "show_me": 1,
    "update_me": 4,
    "change_my_password": 11,
    "show_user": 2,
    "update_user": 4,
    "set_password": 9,
    "activate_user": 2,
    "deactivate_user": 8,
    "promote_user": 7,
    "demote_user": 3,
    "delete_user": 6,
    "register": 5,
    "complete_registration": 0,
    "forgot_password": 5,
    "reset_password": 0,
    "confirm_email": 0,
    "invite_user": 5,
    "verify_my_email": 9,
    "change_my_email": 12,
    "send_reset": 5,
    "verify_email": 5,
    "list_own_factors": 4,
    "enroll_totp": 8,
    "enroll_passkey": 9,
    "confirm_factor": 2,
    "remove_factor": 7,
    "new_recovery_codes": 7,
    "list_factors": 4,
    "reset_factors": 6,
    "create_service_account": 3,
    "list_service_accounts": 2,
    "create_api_key": 5,
    "list_api_keys": 2,
    "rotate_api_key": 7,
    "revoke_api_key": 6,
    "jwks": 0,
    "list_keys": 1,
    "rotate_keys": 4,
    "retire_key": 4,
    "create_role": 3,
    "list_roles": 2,
    "show_role": 2,
    "update_role": 4,
    "delete_role": 5,
    "plan": 5,
    "apply": 40,
    "export_state": 6,
    "grant_role": 5,
    "revoke_role": 3,
    "explain": 2,
    "migration_status": 6,
    "migrate": 1,
    "migration_history": 5,
    "list_audit": 2,
    "export_audit": 2,
    # It has a connection of its own for what it looks through.
    "verify_audit": 1,
    "doctor": 9,
}
# They read, although they are a POST.
READS: Final = {"introspect_token", "plan", "verify_audit"}
# A handful of rows, whatever happens.
SMALL: Final = {"alembic_version", "schema_migrations", "servers"}


def routes(app: FastAPI) -> dict[str, tuple[str, str]]:
    """Return the method and path of every operation."""
    return {
        str(route.name): (min(route.methods or {"GET"}), str(route.path))
        for route in iter_route_contexts(app.routes)
        if isinstance(route.original_route, APIRoute) and route.original_route.include_in_schema
    }


def promises_a_trial(app: FastAPI, path: str, method: str) -> bool:
    """Tell whether a route says of itself that it takes a dry run, and says whether it changed anything."""
    operation = app.openapi()["paths"][path][method.lower()]
    takes = "Prefer" in {one["name"] for one in operation.get("parameters", [])}
    promises = [
        "Apictl-Changed" in said.get("headers", {}) for code, said in operation["responses"].items() if code < "3"
    ]
    assert set(promises) <= {takes}
    return takes


def test_every_route_has_its_line(app: FastAPI) -> None:
    assert set(routes(app)) == set(MATRIX)


@pytest.mark.parametrize("name", MATRIX)
async def test_who_may(
    app: FastAPI,
    client: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    name: str,
    database: asyncpg.Connection,
    password_hash: str,
) -> None:
    tokens, sessions, keys = {}, {}, {}
    for email in (ADA, BOB):
        user = (await admin.post("/v1/users", json={"email": email})).json()
        tokens[email], sessions[email] = await signed_in(app, UUID(user["id"]))
        keys[email] = (await admin.post("/v1/api-keys", json={"user": email, "name": "x"})).json()["id"]
    await database.execute("UPDATE users SET password_hash = $1 WHERE email = $2", password_hash, ADA)
    assert (await admin.post("/v1/roles", json={"name": "support", "scopes": []})).status_code == 201
    asking = {"Authorization": f"Bearer {tokens[ADA]}"}
    root = dict(admin.headers)
    device = (await client.post("/v1/auth/device")).json()["user_code"]
    pending = (await admin.post("/v1/signing-keys")).json()["id"]
    line, (method, path) = MATRIX[name], routes(app)[name]

    async def ask(headers: dict[str, str], about: str) -> httpx2.Response:
        filled = path.format(
            user=about,
            user_code=device,
            role="support",
            token_id=sessions[about],
            api_key_id=keys[about],
            key_id=pending,
            factor_id=pending,
        )
        body, query = (
            {key: value.format(user=about) if isinstance(value, str) else value for key, value in values.items()}
            for values in (line.body or {}, line.query or {})
        )
        return await client.request(method, filled, headers=headers, params=query, json=body or None)

    before = await database.fetch("SELECT id, email, is_active, is_superuser, password_hash FROM users ORDER BY id")
    assert (await ask({}, BOB)).status_code == line.nobody
    assert (await ask(asking, BOB)).status_code == line.other
    if "me" not in path.split("/") and name != "end_own_session":
        after = await database.fetch("SELECT id, email, is_active, is_superuser, password_hash FROM users ORDER BY id")
        assert after == before, "whoever was refused changed something"
    if "{" in path or "{user}" in str(line):
        assert (await ask(asking, ADA)).status_code == line.own
    can_be_tried = promises_a_trial(app, path, method)
    if method != "GET" and name not in READS:
        whole = await rows(database)
        tried = await ask(root | {"Prefer": "dry-run"}, BOB)
        said = (line.superuser, "dry-run") if can_be_tried else (400, None)
        assert (tried.status_code, tried.headers.get("preference-applied")) == said, tried.text
        assert await rows(database) == whole, "what was only to be tried changed something"
    with statements(app) as sent:
        done = await ask(root, BOB)
    assert done.status_code == line.superuser
    assert "apictl-changed" in done.headers or not (can_be_tried and done.is_success)
    assert len(sent) <= STATEMENTS[name], sent
    await database.execute("SET enable_seqscan = off")
    for one in sent:
        steps = nodes(await plan(database, one))
        read = {step["Relation Name"] for step in steps if step["Node Type"] == "Seq Scan"} - SMALL
        assert not read, f"no index serves: {one.text}"
