"""Every route has a limit, or a reason why it needs none; and what is guessed at is held back, each in turn."""

from collections import Counter
from itertools import chain
from typing import Any, Final
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER

WRONG: Final = {"current_password": "wrong"}
FACTOR: Final = "/v1/users/me/factors"
# What takes a secret that somebody chose or types, or makes something for whoever has no credentials: how it is tried.
HELD_BACK: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("POST", "/v1/auth/token"): {"data": {"grant_type": "password", "username": SUPERUSER, "password": "wrong"}},
    ("PUT", "/v1/users/me/password"): {"json": WRONG | {"new_password": PASSWORD + " again"}},
    ("POST", f"{FACTOR}/totp"): {"json": WRONG},
    ("POST", f"{FACTOR}/passkey"): {"json": WRONG},
    ("POST", FACTOR + "/{factor_id}/remove"): {"json": WRONG},
    ("POST", "/v1/users/me/recovery-codes"): {"json": WRONG},
    ("GET", "/v1/devices/{user_code}"): {},
    ("POST", "/v1/devices/{user_code}/approve"): {},
    ("POST", "/v1/devices/{user_code}/deny"): {},
    ("POST", "/v1/auth/device"): {},
    ("POST", "/v1/auth/register"): {"json": {"email": "ada@example.com"}},
    ("POST", "/v1/auth/forgot-password"): {"json": {"email": SUPERUSER}},
    ("POST", "/v1/users/me/verify-email"): {},
    ("PUT", "/v1/users/me/email"): {"json": WRONG | {"email": "ada@example.com"}},
}
# For whoever has shown a credential that cannot be guessed (128 random bits, or a signature): what it costs is bounded,
# a page or a body at a time, by a transaction of so many seconds and a pool of so many connections.
CREDENTIAL: Final = {
    "/v1/api-keys",
    "/v1/api-keys/{api_key_id}",
    "/v1/api-keys/{api_key_id}/rotate",
    "/v1/apply",
    "/v1/audit",
    "/v1/audit/export",
    "/v1/audit/verification",
    "/v1/auth/introspect",
    "/v1/auth/logout",
    "/v1/bulk/users",
    "/v1/doctor",
    "/v1/explain",
    "/v1/invitations",
    "/v1/migrations",
    "/v1/migrations/history",
    "/v1/migrations/upgrade",
    "/v1/plan",
    "/v1/roles",
    "/v1/roles/{role}",
    "/v1/service-accounts",
    "/v1/signing-keys",
    "/v1/signing-keys/{key_id}",
    "/v1/state",
    "/v1/tokens",
    "/v1/tokens/{token_id}",
    "/v1/users",
    "/v1/users/me",
    "/v1/users/me/factors",
    "/v1/users/{user}",
    "/v1/users/{user}/activate",
    "/v1/users/{user}/deactivate",
    "/v1/users/{user}/demote",
    "/v1/users/{user}/factors",
    "/v1/users/{user}/password",
    "/v1/users/{user}/promote",
    "/v1/users/{user}/roles/{role}",
    "/v1/users/{user}/send-reset",
    "/v1/users/{user}/verify-email",
}
OTHERWISE: Final = {
    "/v1/users/me/factors/{factor_id}/confirm": "five attempts, which the factor itself counts",
    "/v1/auth/passkey": "makes a challenge, and keeps nothing",
    "/v1/auth/complete-registration": "the link's secret has 256 bits",
    "/v1/auth/reset-password": "the link's secret has 256 bits",
    "/v1/auth/confirm-email": "the link's secret has 256 bits",
    "/v1/auth/revoke": "what ends something is the secret itself, and it has 128 random bits",
    "/.well-known/jwks.json": "public, from memory",
    "/.well-known/oauth-authorization-server": "public, from memory",
    "/health/live": "asked by load balancers, from memory",
    "/health/ready": "asked by load balancers, by statements that all who ask at once share",
    "/": "leads to the next one",
    "/docs": "public, from memory",
    "/docs/files": "public files",
    "/docs/oauth2-redirect": "public, from memory",
    "/openapi.json": "public, from memory",
    "/account": "a page, from memory",
    "/device": "a page, from memory",
    "/register": "a page, from memory",
    "/reset-password": "a page, from memory",
    "/confirm-email": "a page, from memory",
}


def test_every_route_has_a_limit_or_a_reason(application: FastAPI) -> None:
    routes = {
        (method, str(route.path))
        for route in iter_route_contexts(application.routes)
        for method in route.methods or {"GET"}
        if method != "HEAD"
    }
    paths = {path for _, path in routes}
    assert set(HELD_BACK) <= routes
    assert not (CREDENTIAL | set(OTHERWISE)) - paths, "a route is gone"
    without = {(method, path) for method, path in routes - set(HELD_BACK) if path not in CREDENTIAL | set(OTHERWISE)}
    assert not without, "routes without a limit: have them go through api/throttle, or say here why not"
    twice = Counter(chain(CREDENTIAL, OTHERWISE, {path for _, path in HELD_BACK}))
    assert {path for path, number in twice.items() if number > 1} == set(), "one reason each"


@pytest.mark.parametrize(("method", "path"), HELD_BACK)
async def test_it_is_held_back(
    client: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    superuser: User,
    database: asyncpg.Connection,
    method: str,
    path: str,
) -> None:
    filled = path.format(factor_id=uuid4(), user_code="BCDF-GHJK")
    asking = client if path.startswith("/v1/auth/") else admin
    for _ in range(100):
        answer = await asking.request(method, filled, **HELD_BACK[method, path])
        if answer.status_code == 429:
            break
        assert answer.status_code in {200, 202, 400, 403, 404}, answer.text
    assert (answer.status_code, answer.json()["code"]) == (429, "too-many-attempts")
    # Of mails, three in a quarter of an hour are enough.
    assert 1 <= int(answer.headers["Retry-After"]) <= 300
    # What is held back for a password is held back wherever it is asked for.
    if "current_password" in HELD_BACK[method, path].get("json", {}):
        form = {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD}
        assert (await client.post("/v1/auth/token", data=form)).status_code == 429
