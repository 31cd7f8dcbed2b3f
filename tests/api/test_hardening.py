"""Rows 21, 34 and 36 of the threat table, and what browsers are told: names, proxies, other sites, headers."""

import inspect
import random
import secrets
from typing import Any, Final

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import SecretStr, ValidationError

from api.api_keys.schemas import ApiKeyIssued
from api.config import Settings
from api.core.front import Application
from api.core.proxies import Forwarded
from api.main import create_app
from api.throttle.buckets import GUESS
from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER
from tests.support.cases import cases

KEY: Final = SecretStr(secrets.token_hex(32))
SITE: Final = "https://app.example.com"


def made(**more: Any) -> FastAPI:
    """Return an application that is not started: enough for what needs no database."""
    return create_app(Settings(secret_key=KEY, **more), announce=False)


def client_of(app: Any, address: str = "127.0.0.1", base: str = "http://localhost:8000") -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, client=(address, 50_000), raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url=base)


NAMED: Final = {"issuer": "https://accounts.example.com", "allowed_hosts": "api.example.com, *.Example.org"}
HOSTS: Final = [
    *((name, 200) for name in (
        "localhost", "localhost:8000", "LOCALHOST.:1", "x.localhost", "127.0.0.1:9", "10.1.2.3", "[::1]:8000", "apictl",
        "my_upstream", "accounts.example.com", "accounts.example.com:443", "Accounts.Example.Com", "api.example.com",
        "a.example.org", "a.b.example.org",
    )),
    *((name, 421) for name in (
        "evil.example", "evil.example:8000", "accounts.example.com.evil.example", "xaccounts.example.com",
        "example.com",
        "example.org", "localhost.evil.example", "127.0.0.1.evil.example", "1.2.3", "0x7f.1", "evil.local",
        "a.api.example.com",
    )),
    *((name, 400) for name in (
        "", "a b", "evil@localhost", "localhost/x", "localhost,evil", "localhost:x", "[::1", "l\xf6calhost",
    )),
]  # fmt: skip


async def test_what_the_server_is_called() -> None:
    """Whatever leads here by another name is a stranger's page, or meant for another server."""
    async with client_of(made(**NAMED)) as http:
        # Twice: what is good is remembered.
        for host, status in [*HOSTS, *HOSTS]:
            answer = await http.get("/health/live", headers=[(b"Host", host.encode("latin-1"))])
            assert answer.status_code == status, host
            if status != 200:
                assert answer.json()["code"] == {421: "unknown-host", 400: "bad-request"}[status]
                assert "x-content-type-options" in answer.headers
        assert (
            await http.get("/health/live", headers=[("Host", "localhost"), ("Host", "localhost")])
        ).status_code == 400
    async with client_of(made(allowed_hosts="*")) as http:
        assert (await http.get("/health/live", headers={"Host": "anything.example"})).status_code == 200


def test_names_that_are_remembered_do_not_grow() -> None:
    app = Application(allowed_hosts=["*"])
    for port in range(3000):
        assert app.hosts.refusal(b"localhost:%d" % port) is None
    assert len(app.hosts.known) == 1000


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("allowed_hosts", "https://api.example.com"), ("allowed_hosts", "a.example.com b.example.com"),
        ("allowed_hosts", "api.*"),
        ("trusted_proxies", "10.0.0.1/8"), ("trusted_proxies", "proxy"), ("trusted_proxies", "*"),
        ("cors_origins", "*"), ("cors_origins", "null"), ("cors_origins", "app.example.com"),
        ("cors_origins", f"{SITE}/"),
        ("cors_origins", f"{SITE}:443"), ("cors_origins", "http://app.example.com:80"), ("cors_origins", f"{SITE}/x"),
        ("cors_origins", "https://*.example.com"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_no_setting(setting: str, value: str) -> None:
    with pytest.raises(ValidationError, match=r"is not (a|the)"):
        Settings.model_validate({setting: value})


TRUSTED: Final = "10.0.0.0/8, 192.0.2.7, 2001:db8::/32"
FORWARDED: Final = [
    # Who is connected, what is said, whom it means.
    ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
    ("10.0.0.1", [], "10.0.0.1"),
    ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
    ("10.0.0.1", ["8.8.8.8, 198.51.100.1"], "198.51.100.1"),
    ("10.0.0.1", ["8.8.8.8", "198.51.100.1"], "198.51.100.1"),
    ("10.0.0.1", ["8.8.8.8, 198.51.100.1 , 10.0.0.2,192.0.2.7"], "198.51.100.1"),
    ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ("10.0.0.1", ["8.8.8.8, unknown"], "10.0.0.1"),
    ("10.0.0.1", ["8.8.8.8, _hidden, 10.0.0.2"], "10.0.0.2"),
    ("10.0.0.1", [""], "10.0.0.1"),
    ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
    ("10.0.0.1", ["[2001:db9::1]:4711"], "2001:db9::1"),
    ("10.0.0.1", ["2001:db9::1"], "2001:db9::1"),
    ("::ffff:10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
    ("2001:db8::1", ["198.51.100.1"], "198.51.100.1"),
    ("testclient", ["198.51.100.1"], "testclient"),
]


async def test_whom_a_proxy_speaks_for() -> None:
    app = Application()
    app.max_body_bytes = 1024
    app.add_middleware(Forwarded, proxies=[one.strip() for one in TRUSTED.split(",")])

    @app.get("/x")
    async def who(request: Request) -> list[str]:
        return [request.client.host if request.client else "", request.url.scheme, request.url.netloc]

    for peer, said, meant in FORWARDED:
        headers = [("X-Forwarded-For", one) for one in said]
        headers += [
            ("X-Forwarded-Proto", "http, https"),
            ("X-Forwarded-Host", "evil.example"),
            ("Forwarded", "for=8.8.4.4"),
        ]
        async with client_of(app, peer) as http:
            is_believed = peer not in {"203.0.113.9", "testclient"}
            wanted = [meant, "https" if is_believed else "http", "localhost:8000"]
            assert (await http.get("/x", headers=headers)).json() == wanted, (peer, said)


LIES: Final = {
    "X-Forwarded-For": "10.9.9.9", "X-Real-IP": "10.9.9.9", "Forwarded": "for=10.9.9.9", "X-Client-IP": "10.9.9.9",
    "True-Client-IP": "10.9.9.9", "CF-Connecting-IP": "10.9.9.9", "X-Forwarded-Host": "evil.example",
}  # fmt: skip


async def test_nobody_is_believed_unless_somebody_says_so(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, superuser: User, database: asyncpg.Connection
) -> None:
    del superuser
    form = {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD}
    assert (await client.post("/v1/auth/token", data=form, headers=LIES)).status_code == 200
    assert {row["address"] for row in await database.fetch("SELECT address FROM sessions WHERE address <> ''")} == {
        "127.0.0.1"
    }
    body = {"user": SUPERUSER, "name": "x", "scopes": ["users:read"], "networks": ["10.9.9.0/24"], "expires_in": 60}
    key = ApiKeyIssued.model_validate((await admin.post("/v1/api-keys", json=body)).json()).key
    headers = LIES | {"Authorization": f"Bearer {key}"}
    assert (await client.get("/v1/users/me", headers=headers)).status_code == 401
    # Nor is a guess that names another network each time a first one there.
    wrong = form | {"username": "somebody@example.com", "password": "wrong"}
    statuses = []
    for number in range(GUESS.burst + 1):
        lies = {name: lie.replace("10.9.9.9", f"10.9.{number}.9") for name, lie in LIES.items()}
        statuses.append((await client.post("/v1/auth/token", data=wrong, headers=lies)).status_code)
    assert statuses == [400] * GUESS.burst + [429]


async def test_no_name_of_a_request_gets_into_an_answer() -> None:
    app = made(issuer="https://accounts.example.com", allowed_hosts="*", trusted_proxies="0.0.0.0/0")
    source = random.Random(7)  # noqa: S311 - nothing secret
    names = ["Host", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-For", "X-Forwarded-Prefix",
             "X-Forwarded-Server", "X-Forwarded-Port", "X-Original-URL", "X-Rewrite-URL", "X-Host", "Origin", "Referer",
             "X-HTTP-Host-Override"]  # fmt: skip
    values = [
        "evil.example",
        "evil.example:80",
        "host=evil.example;proto=http",
        "//evil.example",
        "http://evil.example/",
        "/evil.example",
    ]
    paths = [
        "/",
        "/docs",
        "/.well-known/oauth-authorization-server",
        "/v1/nothing",
        "/v1/users/me",
        "/account",
        "/openapi.json",
    ]
    async with client_of(app) as http:
        for _ in range(cases(2000)):
            headers = {name: source.choice(values) for name in source.sample(names, 4)}
            answer = await http.get(source.choice(paths), headers=headers)
            assert b"evil" not in answer.content, headers
            assert "evil" not in str(answer.headers), headers


async def test_other_sites_are_told_nothing(client: httpx2.AsyncClient) -> None:
    for method in ("GET", "OPTIONS"):
        headers = {"Origin": SITE, "Access-Control-Request-Method": "GET"}
        answer = await client.request(method, "/v1/users/me", headers=headers)
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert answer.status_code == {"GET": 401, "OPTIONS": 405}[method]


async def test_a_site_that_is_named_reads_every_answer(settings: Settings, superuser: User) -> None:
    del superuser
    app = create_app(settings.model_copy(update={"cors_origins": f"{SITE}, http://localhost:3000"}), announce=False)
    asked = {
        "Origin": SITE,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization",
    }
    form = {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD}
    async with app.router.lifespan_context(app), client_of(app) as http:
        preflight = await http.options("/v1/users/me", headers=asked)
        assert (preflight.status_code, preflight.content) == (204, b"")
        assert "PATCH" in preflight.headers["access-control-allow-methods"]
        assert {"authorization", "if-match", "prefer"} <= set(
            preflight.headers["access-control-allow-headers"].lower().split(", ")
        )
        theirs = ("https://evil.example", "null", f"{SITE}.evil.example", SITE.upper(), f"{SITE}, {SITE}")
        for origin in (SITE, "http://localhost:3000", *theirs):
            is_ours = origin not in theirs
            headers = {"Origin": origin}
            answers = [
                await http.get("/v1/users/me", headers=headers),
                await http.get("/v1/nothing", headers=headers),
                await http.get("/v1/auth/token", headers=headers),
                await http.post("/v1/users", content=b"x" * 70_000, headers=headers),
                await http.post("/v1/auth/token", data=form, headers=headers),
                await http.get("/.well-known/jwks.json", headers=headers),
            ]
            assert [answer.status_code for answer in answers] == [401, 404, 405, 413, 200, 200]
            for answer in answers:
                assert answer.headers["vary"] == "Origin"
                assert answer.headers.get("access-control-allow-origin") == (origin if is_ours else None)
                assert ("x-request-id" in answer.headers.get("access-control-expose-headers", "").lower()) is is_ours
                assert "access-control-allow-credentials" not in answer.headers
            refused = await http.options("/v1/users/me", headers=asked | headers)
            assert refused.status_code == (204 if is_ours else 405)
        # A cache must not give to that site what somebody got who came from nowhere.
        assert (await http.get("/.well-known/jwks.json")).headers["vary"] == "Origin"


PAGE: Final = {
    "x-frame-options": "DENY", "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store", "x-content-type-options": "nosniff",
}  # fmt: skip


@pytest.mark.parametrize("is_https", [False, True])
async def test_every_answer_has_its_headers(settings: Settings, *, is_https: bool) -> None:
    issuer = {"issuer": "https://accounts.example.com"} if is_https else {}
    app = create_app(Settings(**settings.model_dump(exclude_unset=True) | issuer), announce=False)
    pages = set()
    async with app.router.lifespan_context(app), client_of(app) as http:
        for context in iter_route_contexts(app.routes):
            path = (context.path or "").replace("{", "").replace("}", "")
            for method in context.methods or {"GET"}:
                answer = await http.request(method, path)
                told = answer.headers
                assert answer.status_code < 500, path
                assert told["x-content-type-options"] == "nosniff", path
                assert told["x-request-id"], path
                assert "cache-control" in told, path
                assert "frame-ancestors 'none'" in told["content-security-policy"], path
                assert "default-src 'none'" in told["content-security-policy"], path
                assert told.get("strict-transport-security") == ("max-age=31536000" if is_https else None), path
                assert len(set(told)) == len(told.raw), path
                if told.get("content-type", "").startswith("text/html"):
                    pages.add(path)
                    assert {name: told[name] for name in PAGE} == PAGE, path
                    assert "permissions-policy" in told, path
                elif not path.startswith(("/docs", "/.well-known")):
                    assert told["cache-control"] == "no-store", path
    by_mail = {"/register", "/reset-password", "/confirm-email"}
    assert pages == {"/docs", "/docs/oauth2-redirect", "/account", "/device"} | by_mail


def test_no_route_waits_for_a_thread(application: FastAPI) -> None:
    for context in iter_route_contexts(application.routes):
        route = context.original_route
        if isinstance(route, APIRoute):
            waiting, seen = [route.dependant], []
            while waiting:
                seen.append(waiting.pop())
                waiting += seen[-1].dependencies
            for one in seen:
                call = getattr(one.call, "__call__", one.call) if not inspect.isroutine(one.call) else one.call  # noqa: B004
                assert inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call), (context.path, one.call)
