"""Every kind of token at every place where one is taken: only where it belongs does it open anything.

Kinds and places are held to the code: a new prefix, JWT type, form field or route without its row here fails.
"""

import ast
import base64
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx2
import jwt
import pyotp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI

from api.api_keys.secret import PREFIX as API_KEY
from api.devices.codes import PREFIX as DEVICE_CODE
from api.factors.codes import PREFIX as MFA_TOKEN
from api.mail.links import PREFIX as LINK
from api.mail.links import token as link_token
from api.mail.models import Mail
from api.signing_keys.ring import fresh
from api.tokens.keys import TYPE, Keys
from api.tokens.refusals import GRANT_TYPES
from api.tokens.secret import PREFIX as REFRESH_TOKEN
from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER, SUPERUSER_ID, log_in, signed_in
from tests.project.code import sources
from tests.project.test_default_deny import PUBLIC, routes
from tests.support.authenticator import Authenticator

PREFIXES: Final = {
    "refresh": REFRESH_TOKEN,
    "api key": API_KEY,
    "device code": DEVICE_CODE,
    "mfa token": MFA_TOKEN,
    "link": LINK,
}
# As a bearer token these open what their owner may do; every other kind is a 401 everywhere.
BEARERS: Final = {"access", "client access", "api key"}
KINDS: Final = BEARERS | {
    *PREFIXES,
    "user code",
    "otp",
    "recovery code",
    "passkey",
    "passkey after a password",
    "password",
    "foreign issuer",
    "foreign key",
    "retired key",
    "expired",
}
# The fields of the token endpoint that take a credential, with the grant's other fields, and the kind that opens it.
FIELDS: Final[dict[str, tuple[dict[str, str], str]]] = {
    "password": ({"grant_type": "password", "username": "ada@example.com"}, "password"),
    "refresh_token": ({"grant_type": "refresh_token"}, "refresh"),
    "client_secret": ({"grant_type": "client_credentials", "client_id": "deploy"}, "api key"),
    "device_code": ({"grant_type": "urn:ietf:params:oauth:grant-type:device_code"}, "device code"),
    "mfa_token": ({"grant_type": "urn:apictl:params:oauth:grant-type:mfa", "otp": "{otp}"}, "mfa token"),
    "recovery_code": (
        {"grant_type": "urn:apictl:params:oauth:grant-type:mfa", "mfa_token": "{mfa token}"},
        "recovery code",
    ),
    "otp": ({"grant_type": "urn:apictl:params:oauth:grant-type:mfa", "mfa_token": "{mfa token}"}, "otp"),
    "credential": ({"grant_type": "urn:apictl:params:oauth:grant-type:passkey"}, "passkey"),
    "credential after a password": (
        {"grant_type": "urn:apictl:params:oauth:grant-type:mfa", "mfa_token": "{mfa token}"},
        "passkey after a password",
    ),
}
CLIENT: Final = {"client_id": "deploy"}
OWN: Final = {"name": "x"}
# All other fields that take one, by place: what else is sent, and the kind that opens it; None: none of these does.
ELSEWHERE: Final[dict[tuple[str, str], tuple[dict[str, str], str | None]]] = {
    ("post /v1/auth/passkey", "mfa_token"): ({}, "mfa token"),
    ("post /v1/auth/device", "client_secret"): (CLIENT, "api key"),
    ("post /v1/auth/revoke", "client_secret"): (CLIENT | {"token": "x"}, "api key"),
    ("post /v1/auth/introspect", "client_secret"): (CLIENT | {"token": "x"}, "api key"),
    ("post /v1/users/me/factors/totp", "current_password"): (OWN, "password"),
    ("post /v1/users/me/factors/passkey", "current_password"): (OWN, "password"),
    ("post /v1/users/me/factors/{factor_id}/remove", "current_password"): ({}, "password"),
    ("post /v1/users/me/recovery-codes", "current_password"): ({}, "password"),
    ("post /v1/auth/confirm-email", "token"): ({}, "link"),
    ("post /v1/auth/complete-registration", "token"): ({"password": f"{PASSWORD} again"}, None),
    ("post /v1/auth/reset-password", "token"): ({"password": f"{PASSWORD} again"}, None),
    ("put /v1/users/me/email", "current_password"): ({"email": "new@example.com"}, "password"),
    ("put /v1/users/me/password", "current_password"): ({"new_password": f"{PASSWORD} again"}, "password"),
    # Only what this very app or authenticator shows, which nothing has shown before.
    ("post /v1/users/me/factors/{factor_id}/confirm", "otp"): ({}, None),
    ("post /v1/users/me/factors/{factor_id}/confirm", "credential"): ({}, None),
}
# Looked at and ended, not taken: test_looked_at_and_ended.
SUBJECTS: Final = {("post /v1/auth/revoke", "token"), ("post /v1/auth/introspect", "token")}
NO_CREDENTIALS: Final = {
    *("entries", "heads", "links"),
    *("grant_type", "username", "client_id", "scope", "token_type_hint"),
    *("force", "lock_timeout", "overlap", "statement_timeout", "to"),
    *("algorithm", "description", "email", "expires_in", "full_name", "label", "name", "networks"),
    # What is to be, not what is shown.
    *("new_password", "owner", "roles", "scopes", "service_accounts", "user", "users", "wait"),
}
NEW_PASSWORDS: Final = {
    ("post /v1/auth/complete-registration", "password"),
    ("post /v1/auth/reset-password", "password"),
    ("post /v1/users", "password"),
    ("put /v1/users/{user}/password", "password"),
}


def test_every_kind_is_known() -> None:
    texts = {
        node.value
        for _, tree in sources("api")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 30
    }
    assert {text for text in texts if text.startswith("apictl_") and text.endswith("_")} == set(PREFIXES.values())
    assert {text for text in texts if text.endswith("+jwt")} == {TYPE}


def test_every_field_is_known(application: FastAPI) -> None:
    document = application.openapi()
    found = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if content["schema"] == {"type": "string"}:
                    # A file.
                    continue
                schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
                found |= {(f"{method} {path}", name) for name in schema["properties"]}
    at_token_endpoint = {("post /v1/auth/token", name.partition(" ")[0]) for name in FIELDS}
    known = at_token_endpoint | set(ELSEWHERE) | SUBJECTS | NEW_PASSWORDS
    assert {place for place in found if place[1] not in NO_CREDENTIALS} == known
    assert {form["grant_type"] for form, _ in FIELDS.values()} == set(GRANT_TYPES)


@dataclass
class World:
    """One good token of each kind; those that are good once are made anew for each use."""

    app: FastAPI
    client: httpx2.AsyncClient
    admin: httpx2.AsyncClient
    database: asyncpg.Connection
    secret: str
    passkey: Authenticator
    recovery_codes: list[str]
    api_key: str
    retired: str

    async def fresh(self) -> "Tokens":
        """Return tokens that nobody has used."""
        await self.database.execute("UPDATE second_factors SET last_step = 0, failures = 0")
        await self.database.execute("DELETE FROM throttles")
        return Tokens(self)

    async def token(self, **form: str) -> httpx2.Response:
        """Ask the token endpoint."""
        return await self.client.post("/v1/auth/token", data=form)


class Tokens:
    """One of each kind, made when it is first asked for: those that hang together are of one login."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._keys: Keys = world.app.state.keys
        self._made = {
            "password": PASSWORD,
            "api key": world.api_key,
            "recovery code": world.recovery_codes[0],
            "otp": pyotp.TOTP(world.secret).now(),
            "retired key": world.retired,
        }
        self._makers: dict[str, Callable[[], Awaitable[str]]] = {
            "access": lambda: self._issued("access_token"),
            "refresh": lambda: self._issued("refresh_token"),
            "client access": self._of_a_client,
            "device code": lambda: self._of_a_device("device_code", approve=True),
            "user code": lambda: self._of_a_device("user_code", approve=False),
            "mfa token": self._of_a_login,
            "passkey": lambda: self._answer({}),
            "passkey after a password": self._answer_after_a_password,
            "foreign issuer": self._by_a_foreign_issuer,
            "foreign key": self._by_a_foreign_key,
            "expired": self._expired,
            "link": self._link,
        }
        assert self._made.keys() | self._makers.keys() == KINDS

    async def get(self, kind: str) -> str:
        """Return the one of this kind."""
        if kind not in self._made:
            self._made[kind] = await self._makers[kind]()
        return self._made[kind]

    async def filled(self, form: dict[str, str]) -> dict[str, str]:
        """Return a form with the tokens in it that it names."""
        return {name: await self.get(value[1:-1]) if value[0] == "{" else value for name, value in form.items()}

    async def _issued(self, which: str) -> str:
        issued: dict[str, str] = (await self._world.admin.post("/v1/tokens", json={"user": SUPERUSER})).json()
        return issued[which]

    async def _of_a_client(self) -> str:
        form = {"grant_type": "client_credentials", "client_id": "deploy", "client_secret": self._world.api_key}
        issued: dict[str, str] = (await self._world.token(**form)).json()
        return issued["access_token"]

    async def _of_a_device(self, which: str, *, approve: bool) -> str:
        begun: dict[str, str] = (await self._world.client.post("/v1/auth/device")).json()
        if approve:
            (await self._world.admin.post(f"/v1/devices/{begun['user_code']}/approve")).raise_for_status()
        return begun[which]

    async def _of_a_login(self) -> str:
        form = {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD}
        refused: dict[str, str] = (await self._world.token(**form)).json()
        return refused["mfa_token"]

    async def _answer(self, form: dict[str, str]) -> str:
        options = (await self._world.client.post("/v1/auth/passkey", data=form)).json()["options"]
        return json.dumps(self._world.passkey.get(options))

    async def _answer_after_a_password(self) -> str:
        return await self._answer({"mfa_token": await self.get("mfa token")})

    async def _claims(self) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(await self.get("access"), options={"verify_signature": False})
        return claims

    async def _by_a_foreign_issuer(self) -> str:
        other = Keys(b"f" * 64, issuer="https://evil.example")
        other.fill(self._keys.ring.values(), now=datetime.now(UTC), at=float("inf"))
        return other.sign(user_id=SUPERUSER_ID, session_id=(await self._claims())["sid"], ttl=900)

    async def _by_a_foreign_key(self) -> str:
        header = {"typ": TYPE, "kid": self._keys.require_signing().kid}
        return jwt.encode(await self._claims(), Ed25519PrivateKey.generate(), "EdDSA", headers=header)

    async def _link(self) -> str:
        """Return what a mail has that asks the superuser to confirm their address."""
        await self._world.database.execute("DELETE FROM mails")
        row = await self._world.database.fetchrow(
            "INSERT INTO mails (id, kind, address, minute, user_id, expires_at) "
            "VALUES (gen_random_uuid(), 'verify', $1, 0, $2, now() + interval '1 minute') RETURNING *",
            SUPERUSER, SUPERUSER_ID,
        )  # fmt: skip
        assert row is not None
        stored = await self._world.database.fetchval("SELECT password_hash FROM users WHERE id = $1", SUPERUSER_ID)
        mail = Mail(id=UUID(str(row["id"])), kind="verify", address=SUPERUSER)
        return link_token(mail, User(id=SUPERUSER_ID, email=SUPERUSER, password_hash=stored), self._keys.links)

    async def _expired(self) -> str:
        return self._keys.sign(user_id=SUPERUSER_ID, session_id=(await self._claims())["sid"], ttl=-61)


@pytest.fixture
async def world(
    app: FastAPI,
    client: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    superuser: User,
    database: asyncpg.Connection,
    password_hash: str,
) -> World:
    """All that a token can be of: a superuser with a second factor, a service account, a retired key."""
    await admin.post("/v1/users", json={"email": "ada@example.com"})
    await database.execute("UPDATE users SET password_hash = $1 WHERE email = 'ada@example.com'", password_hash)
    await admin.post("/v1/roles", json={"name": "deployer", "scopes": ["users:read"]})
    await admin.post("/v1/service-accounts", json={"name": "deploy", "roles": ["deployer"]})
    key = (await admin.post("/v1/api-keys", json={"user": "deploy", "name": "x", "scopes": ["users:read"]})).json()
    retired = (await log_in(client, SUPERUSER))["access_token"]
    made = (await admin.post("/v1/users/me/factors/totp", json={"current_password": PASSWORD})).json()
    proof = {"otp": pyotp.TOTP(made["secret"]).now()}
    confirmed = await admin.post(f"/v1/users/me/factors/{made['id']}/confirm", json=proof)
    codes = confirmed.json()["recovery_codes"]
    passkey = Authenticator()
    begun = (await admin.post("/v1/users/me/factors/passkey", json={"current_password": PASSWORD})).json()
    made_there = {"credential": passkey.create(begun["options"])}
    assert (await admin.post(f"/v1/users/me/factors/{begun['id']}/confirm", json=made_there)).status_code == 200
    await admin.post("/v1/signing-keys", json={"wait": 0})
    await fresh(app.state.keys, app.state.runtime, since=time.monotonic())
    admin.headers["Authorization"] = f"Bearer {(await signed_in(app, superuser.id))[0]}"
    old = jwt.get_unverified_header(retired)["kid"]
    assert (await admin.delete(f"/v1/signing-keys/{old}", params={"force": True})).status_code == 200
    await fresh(app.state.keys, app.state.runtime, since=time.monotonic())
    return World(app, client, admin, database, made["secret"], passkey, codes, key["key"], retired)


async def test_as_a_bearer_token(world: World) -> None:
    tokens = await world.fresh()
    paths = [(method, path) for method, path in routes(world.app) if path not in PUBLIC and method != "HEAD"]
    assert len(paths) > 40
    for kind in KINDS - BEARERS:
        token = await tokens.get(kind)
        for method, path in paths:
            filled = "/".join("x" if part.startswith("{") else part for part in path.split("/"))
            for headers in ({"Authorization": f"Bearer {token}"}, {"Authorization": token}):
                answer = await world.client.request(method, filled, headers=headers)
                assert answer.status_code == 401, f"{kind} at {method} {path}"
    for kind in BEARERS:
        headers = {"Authorization": f"Bearer {await tokens.get(kind)}"}
        assert (await world.client.get("/v1/users/me", headers=headers)).status_code == 200, kind


@pytest.mark.parametrize("field", FIELDS)
async def test_at_the_token_endpoint(world: World, field: str) -> None:
    form, right = FIELDS[field]
    for kind in sorted(KINDS, key=lambda kind: kind == right):
        tokens = await world.fresh()
        filled = await tokens.filled(form)
        answer = await world.token(**filled | {field.partition(" ")[0]: await tokens.get(kind)})
        # A one-time password is no recovery code, whichever field it stands in.
        assert (answer.status_code == 200) == (kind == right), f"{kind} as {field}: {answer.text}"
        assert answer.status_code in {200, 400, 401}


def in_json(app: FastAPI, operation: str) -> bool:
    """Tell whether a route takes JSON, and no form."""
    method, path = operation.split()
    return "application/json" in app.openapi()["paths"][path][method]["requestBody"]["content"]


@pytest.mark.parametrize("place", ELSEWHERE, ids=" ".join)
async def test_elsewhere(world: World, place: tuple[str, str]) -> None:
    (operation, field), (others, right) = place, ELSEWHERE[place]
    method, path = operation.split()
    for kind in sorted(KINDS, key=lambda kind: kind == right):
        value: Any = await (await world.fresh()).get(kind)
        factor_id = ""
        if "{factor_id}" in path:
            pending = await world.admin.post("/v1/users/me/factors/totp", json={"current_password": PASSWORD})
            factor_id = pending.json()["id"]
        filled = path.format(factor_id=factor_id)
        if path.startswith("/v1/auth") and not in_json(world.app, operation):
            answer = await world.client.request(method, filled, data=others | {field: value})
        else:
            value = json.loads(value) if field == "credential" and value.startswith("{") else value
            answer = await world.admin.request(method, filled, json=others | {field: value})
        # Whoever is who they say, and may not look at tokens, is told that.
        taken = answer.is_success or answer.json()["code"] == "missing-scope"
        assert taken == (kind == right), f"{kind} as {field} at {path}: {answer.text}"
        assert answer.status_code < 500


async def test_as_a_client_s_secret(world: World) -> None:
    tokens = await world.fresh()
    for kind in KINDS - {"api key"}:
        encoded = base64.b64encode(f"deploy:{await tokens.get(kind)}".encode()).decode()
        for path, form in (("/v1/auth/token", {"grant_type": "client_credentials"}), ("/v1/auth/introspect", {})):
            answer = await world.client.post(path, data=form, headers={"Authorization": f"Basic {encoded}"})
            assert answer.status_code == 401, f"{kind} at {path}"


async def test_looked_at_and_ended(world: World) -> None:
    tokens = await world.fresh()
    looked_at = BEARERS | {"refresh"}
    for kind in KINDS:
        answer = await world.admin.post("/v1/auth/introspect", data={"token": await tokens.get(kind)})
        assert answer.json()["active"] is (kind in looked_at), kind
    # What is no token of those ends nothing.
    for kind in KINDS - looked_at - {"expired"}:
        answer = await world.client.post("/v1/auth/revoke", data={"token": await tokens.get(kind)})
        assert answer.status_code == 200, kind
    for kind in BEARERS:
        headers = {"Authorization": f"Bearer {await tokens.get(kind)}"}
        assert (await world.client.get("/v1/users/me", headers=headers)).status_code == 200, kind


async def test_as_a_device_s_code(world: World) -> None:
    tokens = await world.fresh()
    for kind in KINDS - {"user code"}:
        answer = await world.admin.get(f"/v1/devices/{await tokens.get(kind)}")
        assert answer.status_code in {404, 422}, kind
    assert (await world.admin.get(f"/v1/devices/{await tokens.get('user code')}")).status_code == 200
