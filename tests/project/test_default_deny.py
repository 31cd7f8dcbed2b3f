"""Nothing is open by accident: neither a route nor a service lets nobody in, unless a line here says so."""

import inspect
from collections.abc import AsyncIterator
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, get_type_hints
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from api.api_keys.schemas import ApiKeyCreate, ApiKeyQuery
from api.audit.schemas import AuditFilter, AuditQuery, AuditSince
from api.bulk.router import pieces
from api.bulk.schemas import ExportOptions, ImportOptions
from api.config import Settings
from api.core.actor import Actor, Scope
from api.core.errors import NotAuthenticated
from api.core.runtime import Runtime
from api.factors.schemas import FactorConfirm
from api.migrations.schemas import MigrationUpgrade, RollbackPlan
from api.roles.schemas import Question, RoleCreate, RoleQuery, RoleUpdate
from api.self_service.schemas import InvitationCreate
from api.service_accounts.schemas import ServiceAccountCreate, ServiceAccountQuery
from api.signing_keys.schemas import SigningKeyCreate, SigningKeyQuery
from api.state.schemas import ApplyOptions, ExportStateOptions, PlanOptions, State
from api.suggestions.service import Kind
from api.throttle.service import Throttle
from api.tokens.keys import Keys
from api.tokens.schemas import TokenCreate, TokenQuery, TokensRevoke
from api.users.schemas import AccountQuery, UserCreate, UserQuery, UserUpdate
from tests.project.code import modules

PUBLIC: Final = {
    "/": "leads to the next one",
    "/docs": "describes what is in README anyway",
    "/docs/files": "the scripts of that page",
    "/docs/oauth2-redirect": "a script of that page",
    "/health/live": "asked by load balancers",
    "/health/ready": "asked by load balancers",
    "/.well-known/jwks.json": "what others verify our tokens with",
    "/.well-known/oauth-authorization-server": "how OAuth clients find everything",
    "/v1/auth/revoke": "whoever holds a token may end it (RFC 7009)",
    "/account": "the page on which people see to their own passkeys and apps",
    "/device": "the page on which a person lets a device act for them",
    "/register": "the page on which somebody makes an account, by a link",
    "/reset-password": "the page on which somebody chooses a new password, by a link",
    "/confirm-email": "the page on which somebody confirms their address, by a link",
    "/v1/auth/register": "whoever registers has no credentials yet",
    "/v1/auth/complete-registration": "the link is what is shown",
    "/v1/auth/forgot-password": "whoever has forgotten their password has none to show",
    "/v1/auth/reset-password": "the link is what is shown",
    "/v1/auth/confirm-email": "the link is what is shown",
    "/v1/auth/passkey": "whoever logs in with a passkey has no credentials yet",
    "/v1/auth/device": "a device that begins to wait has no credentials yet",
    "/openapi.json": "what /docs shows",
    "/v1/auth/token": "where credentials are shown for the first time",
}


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Return every method and path that the application answers; a mounted application counts as a GET."""
    return [
        (method, str(route.path))
        for route in iter_route_contexts(app.routes)
        for method in sorted(route.methods or {"GET"})
    ]


async def test_routes(app: FastAPI, client: httpx2.AsyncClient) -> None:
    found = routes(app)
    assert set(PUBLIC) <= {path for _, path in found}, "a public route is gone: take it out of PUBLIC"
    closed = [(method, path) for method, path in found if path not in PUBLIC]
    assert closed
    for method, path in closed:
        filled = "/".join(str(uuid4()) if part.startswith("{") else part for part in path.split("/"))
        response = await client.request(method, filled)
        said = (response.status_code, response.headers.get("content-type"))
        assert said == (401, "application/problem+json"), f"{method} {path} lets nobody in: {said}"
        assert response.json()["code"] == "not-authenticated"
        assert response.headers["www-authenticate"].startswith("Bearer")


SERVICES: Final = [
    found
    for module in modules()
    for name, found in vars(module).items()
    if name.endswith("Service") and inspect.isclass(found) and found.__module__ == module.__name__
]
METHODS: Final = [
    (service, name)
    for service in SERVICES
    for name, _ in inspect.getmembers(service, inspect.isfunction)
    if not name.startswith("_")
]
EXAMPLES: Final[dict[Any, Any]] = {
    str: "ada@example.com",
    str | None: None,
    UUID: uuid4(),
    Keys: Keys(b"k" * 32, issuer="http://testserver"),
    ApiKeyCreate: ApiKeyCreate(user="ada@example.com", name="x"),
    ApiKeyQuery: ApiKeyQuery(),
    ServiceAccountCreate: ServiceAccountCreate(name="deploy"),
    ServiceAccountQuery: ServiceAccountQuery(),
    SigningKeyCreate: SigningKeyCreate(),
    SigningKeyQuery: SigningKeyQuery(),
    int: 60,
    bool: True,
    Question: Question(user="ada@example.com", can=Scope.USERS_READ),
    RoleCreate: RoleCreate(name="support", scopes=[]),
    RoleQuery: RoleQuery(),
    RoleUpdate: RoleUpdate(),
    FactorConfirm: FactorConfirm(otp="123456"),
    TokenCreate: TokenCreate(user="ada@example.com"),
    TokenQuery: TokenQuery(),
    TokensRevoke: TokensRevoke(),
    MigrationUpgrade: MigrationUpgrade(),
    RollbackPlan: RollbackPlan(current=None, to=None, steps=[], lost=[], served_by=[]),
    InvitationCreate: InvitationCreate(email="ada@example.com", roles=[]),
    UserCreate: UserCreate(email="ada@example.com"),
    UserQuery: UserQuery(),
    UserUpdate: UserUpdate(full_name="Ada"),
    AccountQuery: ServiceAccountQuery(),
    AsyncIterator[bytes]: pieces(b""),
    Kind: "user",
    ImportOptions: ImportOptions(),
    ExportOptions: ExportOptions(),
    State: State(owner="x"),
    PlanOptions: PlanOptions(),
    ApplyOptions: ApplyOptions(),
    ExportStateOptions: ExportStateOptions(owner="x"),
    AuditFilter: AuditFilter(),
    AuditQuery: AuditQuery(),
    AuditSince: AuditSince.model_validate({}),
}


def arguments(function: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Return something plausible for each parameter that needs a value."""
    hints = get_type_hints(function)
    needed = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.default is parameter.empty
    ]
    return {name: known[name] if name in known else EXAMPLES[hints[name]] for name in needed}


@pytest.mark.parametrize(("service", "method"), METHODS, ids=[f"{cls.__name__}.{name}" for cls, name in METHODS])
async def test_services(service: type[Any], method: str, runtime: Runtime, settings: Settings) -> None:
    async with runtime.transaction(rollback=True) as session:
        resources = {
            "session": session,
            "actor": Actor.nobody(),
            "passwords": runtime.passwords,
            "direct": runtime.direct,
            "settings": settings,
            "open_engine": runtime.patient_engine,
            "transaction": runtime.transaction,
            "runtime": runtime,
            "throttle": Throttle(runtime, ""),
            "hold_runtime": partial(nullcontext, runtime),
        }
        door = getattr(service(**arguments(service.__init__, resources)), method)
        with pytest.raises(NotAuthenticated):
            await door(**arguments(door, {}))


def test_every_service_was_found() -> None:
    assert {service.__name__ for service in SERVICES} >= {
        "UserService",
        "RoleService",
        "TokenService",
        "MigrationService",
    }
