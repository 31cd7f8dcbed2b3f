"""The short way to a route, and FastAPI's own: nobody can tell which of them a request took."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Literal

import httpx2
import pytest
from fastapi import BackgroundTasks, Cookie, Depends, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, SecretStr, field_serializer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.config import Settings
from api.core.answers import flat, plain, plainly
from api.core.front import Application, Plans
from api.core.plans import NoPlanError, Plan
from api.main import LONG_WORK, ROUTERS, create_app

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/health/live", {}),
    ("GET", "/health/live", {"headers": {"X-Request-Id": "mine"}}),
    ("GET", "/health/live?x=1", {"headers": {"X-Request-Id": "not mine!"}}),
    ("GET", "/v1/users/me", {}),
    ("GET", "/v1/users/me?x=1", {}),
    ("GET", "/v1/users/me", {"content": b"{}"}),
    ("GET", "/v1/users/me", {"headers": {"Authorization": "Bearer nonsense"}}),
    ("GET", "/v1/users?limit=2&sort=-email", {}),
    ("GET", "/v1/users?limit=no&limit=1&sort=x&y=2", {}),
    ("GET", "/v1/users/nobody%40example.com", {}),
    ("GET", "/v1/users/%00", {}),
    ("GET", "/v1/nothing", {}),
    ("POST", "/v1/users/me", {}),
    ("HEAD", "/v1/users/me", {}),
    ("POST", "/v1/users?is_superuser=maybe", {"json": {"email": 1, "more": 2}}),
    ("POST", "/v1/users", {"content": b"{", "headers": JSON}),
    ("POST", "/v1/users", {"content": b'{"email": "\xff"}', "headers": JSON}),
    ("POST", "/v1/users", {"content": b"[" * 5000, "headers": JSON}),
    ("POST", "/v1/users", {"content": b"{}"}),
    ("POST", "/v1/users", {"content": b"{}", "headers": {"Content-Type": "application/problem+json; a=b"}}),
    ("POST", "/v1/users", {"content": b"x" * 70_000, "headers": JSON}),
    ("POST", "/v1/users", {}),
    ("PATCH", "/v1/users/me", {"json": {"full_name": "Root"}, "headers": {"If-Match": '"7"'}}),
    ("PATCH", "/v1/users/me", {"json": {"full_name": "Root"}, "headers": {"If-Match": "7"}}),
    ("DELETE", "/v1/tokens/no-uuid", {}),
    ("POST", "/v1/auth/token", {"content": b"grant_type=password&username=a", "headers": FORM}),
    ("POST", "/v1/auth/token", {"content": b"grant_type=x&grant_type=y", "headers": FORM}),
    ("POST", "/v1/auth/token", {"json": {"grant_type": "password"}}),
    ("POST", "/v1/auth/token", {"content": b"x" * 70_000, "headers": FORM}),
    ("POST", "/v1/migrations/upgrade", {}),
    ("POST", "/v1/migrations/upgrade", {"json": None}),
]
OWN = {"x-request-id", "date"}


def seen(answer: httpx2.Response) -> tuple[int, dict[str, str], str]:
    """Return an answer without what is another one each time."""
    request_id = answer.headers["x-request-id"]
    headers = {name: value for name, value in answer.headers.items() if name not in OWN}
    return answer.status_code, headers, answer.text.replace(request_id, "…")


@contextmanager
def usually(app: FastAPI) -> Iterator[None]:
    """Let every request go FastAPI's own way, as where a developer's test puts something in a dependency's place."""
    app.dependency_overrides[usually] = usually
    try:
        yield
    finally:
        app.dependency_overrides.clear()


async def test_both_ways_answer_alike(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    differ = []
    for method, path, more in REQUESTS:
        short = seen(await admin.request(method, path, **more))
        with usually(app):
            usual = seen(await admin.request(method, path, **more))
        if short != usual:
            differ.append((method, path, short, usual))
    assert differ == []


async def test_both_ways_change_alike(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    short = await admin.post("/v1/users", json={"email": "ada@example.com"})
    with usually(app):
        usual = await admin.post("/v1/users", json={"email": "bob@example.com"})
        assert (await admin.delete(f"/v1/users/{short.json()['id']}")).status_code == 200
        assert (await admin.get("/v1/users/ada@example.com")).status_code == 404
    assert short.status_code == usual.status_code == 201
    assert (list(short.headers), list(short.json())) == (list(usual.headers), list(usual.json()))
    gone = await admin.post("/v1/auth/logout")
    assert (gone.status_code, gone.content, "content-length" in gone.headers) == (204, b"", False)


def test_every_route_of_ours_has_a_plan(application: FastAPI) -> None:
    plans = Plans(iter_route_contexts(application.routes), LONG_WORK)
    without = []
    for context in iter_route_contexts(application.routes):
        if isinstance(context.original_route, APIRoute) and context.original_route.include_in_schema:
            path = (context.path or "").replace("{", "").replace("}", "")
            found = plans.find({"method": min(context.methods or {""}), "path": path})
            if found is None or found[0].route is not context.original_route:
                without.append(path)
    assert without == []


MOMENTS = st.datetimes(timezones=st.just(UTC))
FLAT = sorted(
    {
        model.__name__: model
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and (model := flat(route.response_model))
    }.items()
)


@pytest.mark.parametrize("model", [model for _, model in FLAT], ids=[name for name, _ in FLAT])
@given(data=st.data())
@settings(max_examples=30)
def test_what_is_simple_is_written_as_pydantic_writes_it(model: type[BaseModel], data: st.DataObject) -> None:
    number = st.integers(-(2**63), 2**64 - 1)
    strategies = {
        datetime: MOMENTS,
        datetime | None: st.none() | MOMENTS,
        int: number,
        int | None: st.none() | number,
    }
    value = data.draw(
        st.fixed_dictionaries(
            {
                name: strategies.get(field.annotation, st.from_type(field.annotation))  # type: ignore[arg-type]
                for name, field in model.model_fields.items()
            }
        ).map(lambda values: model.model_construct(None, **values))
    )
    assert plainly(value) == value.model_dump_json().encode()


class Single(BaseModel):
    it: int


class Detailed(Single):
    secret: str = "x"


class Nested(BaseModel):
    it: Single


class Shouting(BaseModel):
    it: str

    @field_serializer("it")
    def loud(self, it: str) -> str:
        return it.upper()


class Renamed(BaseModel):
    it: str = Field(serialization_alias="that")


class Computed(BaseModel):
    it: str

    @cached_property
    def twice(self) -> str:
        return self.it * 2


def test_what_is_not_simple_is_pydantic_s() -> None:
    assert [flat(model) for model in (Renamed, Computed, RootModel[list[str]])] == [None] * 3
    assert (flat(Single), flat(Nested), flat(Shouting), flat(list[Single]), flat(None)) == (Single, *[None] * 4)
    assert not any(map(plain, (float, dict[str, int], bytes, SecretStr, Any, list[float], Literal[1])))


async def test_what_is_written_is_what_is_declared() -> None:
    """Not what somebody returns besides; and a number that orjson does not know is written all the same."""
    app = Application()
    app.max_body_bytes = 1024

    @app.get("/less")
    async def less() -> Single:
        return Detailed(it=1)

    @app.get("/much")
    async def much() -> Single:
        return Single(it=2**70)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x") as http:
        assert (await http.get("/less")).json() == {"it": 1}
        assert (await http.get("/much")).json() == {"it": 2**70}


def takes_a_cookie(mine: Annotated[str, Cookie()] = "") -> str:
    return mine


async def takes_a_task(tasks: BackgroundTasks) -> str:
    return str(tasks)


async def is_not_kept() -> str:
    return ""


async def uses_what_is_not_kept(it: Annotated[str, Depends(is_not_kept, use_cache=False)]) -> str:
    return it


@pytest.mark.parametrize("call", [takes_a_cookie, takes_a_task, uses_what_is_not_kept])
def test_what_no_plan_knows_goes_the_usual_way(call: Any) -> None:
    app = FastAPI()
    app.get("/x")(call)
    (context,) = (found for found in iter_route_contexts(app.routes) if found.path == "/x")
    with pytest.raises(NoPlanError):
        Plan(context)
    assert Plans([context], {}).find({"method": "GET", "path": "/x"}) is None


class Marked:
    """Middleware as somebody writes it."""

    def __init__(self, app: ASGIApp, mark: str) -> None:
        self._app = app
        self._mark = mark

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/fails":
            raise ValueError(self._mark)

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-mark", self._mark.encode())]
            await send(message)

        await self._app(scope, receive, marked)


async def test_middleware_that_somebody_adds_is_before_every_route(settings: Settings) -> None:
    app = create_app(settings, announce=False)
    app.add_middleware(Marked, mark="inner")
    app.add_middleware(Marked, mark="outer")
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client,
    ):
        for path in ("/health/live", "/v1/users/me", "/docs", "/nowhere"):
            assert (await client.get(path)).headers.get_list("x-mark") == ["inner", "outer"], path
        failed = await client.get("/fails")
        assert (failed.status_code, failed.json()["code"]) == (500, "internal-error")


class Number(BaseModel):
    number: int


@pytest.mark.parametrize("is_usual", [False, True])
async def test_an_answer_that_cannot_be_written_undoes_what_was_done(settings: Settings, *, is_usual: bool) -> None:
    app = create_app(settings, announce=False)
    ended: list[str] = []

    async def work() -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            ended.append("undone")
            raise
        ended.append("done")

    @app.get("/number")
    async def number(_: Annotated[None, Depends(work, scope="function")]) -> Number:
        return "none"  # type: ignore[return-value]  # that is the point

    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        if is_usual:
            app.dependency_overrides[usually] = usually
        assert (await client.get("/number")).status_code == 500
    assert ended == ["undone"]


async def test_a_body_is_counted_where_nothing_says_that_there_is_one(app: FastAPI) -> None:
    """As in HTTP/2, where both headers may be missing."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * 70_000, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "http_version": "2", "method": "POST", "path": "/v1/auth/token", "raw_path": b"/v1/auth/token",
        "query_string": b"", "headers": [(b"content-type", FORM["Content-Type"].encode())], "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await app(scope, receive, send)
    assert sent[0]["status"] == 413
