"""What every request comes through: its id, the limit of its body, and the way to its route. HTTP only.

Pure ASGI; Starlette's BaseHTTPMiddleware would cost most of the throughput.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.core import bodies, logs
from api.core.deadlines import Deadlines
from api.core.errors import ApictlError, InvalidInput, RouteNotFound
from api.core.headers import Headers
from api.core.hosts import Hosts
from api.core.plans import NoPlanError, Plan
from api.core.problems import response
from api.core.watch import watched

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
HTTP_1: Final = ("1.0", "1.1")
LAST: Final = (b"connection", b"close")
Handler = Callable[[Request, Exception], Awaitable[Response]]


class Application(FastAPI):
    """FastAPI, with our front before it."""

    max_body_bytes: int

    def __init__(self, *, public_url: str = "", allowed_hosts: Iterable[str] = (), **options: Any) -> None:
        super().__init__(**options)
        # By method and path: bodies that may be longer, in bytes.
        self.long_bodies: dict[tuple[str, str], int] = {}
        self.hosts = Hosts(public_url, allowed_hosts)
        self.headers = Headers(is_https=public_url.startswith("https:"))
        self.deadlines = Deadlines()
        # By method and path: what has no deadline, and why.
        self.long_work: Mapping[tuple[str, str], str] = {}
        # Told to stop: each connection is to end with the answer that it has coming, and others are to be asked.
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request: as FastAPI does, without looking each time whether somebody traces requests."""
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
        else:
            await Starlette.__call__(self, scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Return what a request comes through first; called once, at the first one.

        Middleware that somebody adds is before our front, and so before every route.
        """
        added, self.user_middleware = self.user_middleware, []
        front = Front(self, super().build_middleware_stack())
        app = watched(front, getattr(self.state, "metrics", None), getattr(self.state, "traces", None))
        self.user_middleware = added
        if not added:
            return app
        for cls, arguments, options in reversed(added):
            app = cls(app, *arguments, **options)
        return ServerErrorMiddleware(app, handler=self.exception_handlers.get(Exception))


class Front:
    """Gives each request an id, refuses what no route should see, and leads to the route, by its plan if it has one."""

    def __init__(self, app: Application, usual: ASGIApp) -> None:
        self._app = app
        self._usual = usual
        self._plans = Plans(iter_route_contexts(app.routes), app.long_work)
        self._known = app.hosts.known
        self._added_to = app.headers.added_to

    # In one piece: another call would be a part of each request that can be measured.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._usual(scope, receive, send)
            return
        given = b""
        host: bytes | None = None
        length: bytes | None = None
        coding: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"host":
                # Two of them are none, whatever they are; of codings likewise.
                host = value if host is None else b""
            elif name == b"x-request-id":
                given = value
            elif name == b"content-length":
                length = value
            elif name == b"transfer-encoding":
                coding = value if coding is None else b""
        # Without them, there is no body in HTTP/1.
        has_body = length is not None or coding is not None or scope.get("http_version") not in HTTP_1
        request_id = given if REQUEST_ID.fullmatch(given) else os.urandom(16).hex().encode()
        text = request_id.decode()
        logs.REQUEST_ID.set(text)
        state = scope.setdefault("state", {})
        state.update(request_id=text, has_body=has_body, is_coming=False)
        if has_body or host not in self._known or b"%" in scope["raw_path"]:
            most = self._app.long_bodies.get((scope["method"], scope["path"]), self._app.max_body_bytes)
            refused = self._host(scope, host) or bodies.refusal(scope, length, coding, most) or odd_path(scope)
            if refused is not None:
                answered: Response = response(refused, scope)
                if has_body:
                    # Nothing of it is read; what is under way on this connection is not another request.
                    answered.headers["Connection"] = "close"
                await self._whole(answered, request_id, scope)(scope, receive, send)
                return
            if has_body:
                receive = bodies.counted(receive, most, state)
        found = None if self._app.dependency_overrides else self._plans.find(scope)
        if found is None:
            await self._go_the_usual_way(scope, receive, send, request_id)
            return
        plan, scope["path_params"] = found
        await self._go_by(plan, scope, receive, send, request_id)

    async def _go_by(self, plan: Plan, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        """Answer by a plan."""
        scope["route"] = plan.route
        request = Request(scope, receive, send)
        deadlines, task = self._app.deadlines, asyncio.current_task()
        deadlines.under_way[task] = deadlines.now
        try:
            answered = await plan.handle(request)
        except asyncio.CancelledError:
            if not deadlines.ended(task):
                raise
            answered = response(bodies.cut_off(scope), scope)
        except Exception as error:
            deadlines.ended(task)
            handle, is_known = self._handler(error)
            await self._whole(await handle(request, error), request_id, scope)(scope, receive, send)
            if not is_known:
                # The server logs its traceback.
                raise
            return
        finally:
            deadlines.ended(task)
        await self._whole(answered, request_id, scope)(scope, receive, send)

    async def _go_the_usual_way(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        """Have FastAPI answer, in the same time."""
        deadlines, task = self._app.deadlines, asyncio.current_task()
        mark = self._marked(send, request_id, scope)

        async def begin(message: Message) -> None:
            deadlines.ended(task)
            await mark(message)

        if (scope["method"], scope["path"]) not in self._app.long_work:
            deadlines.under_way[task] = deadlines.now
        try:
            await self._usual(scope, receive, begin)
        except asyncio.CancelledError:
            if not deadlines.ended(task):
                raise
            await response(bodies.cut_off(scope), scope)(scope, receive, mark)
        finally:
            deadlines.ended(task)

    def _host(self, scope: Scope, host: bytes | None) -> ApictlError | None:
        """Return why a request is not for this server; None if it is."""
        if host in self._known or (host is None and scope.get("http_version") != "1.1"):
            return None
        return self._app.hosts.refusal(host or b"")

    def _whole(self, answered: Response, request_id: bytes, scope: Scope) -> Response:
        """Return an answer with what every answer has."""
        # By hand: Starlette's headers take longer for it than for all the rest.
        state = scope["state"]
        state["status"] = answered.status_code
        answered.raw_headers = self._added_to(answered.raw_headers, request_id, is_undone="dry_run" in state)
        if self._app.draining:
            answered.raw_headers.append(LAST)
        return answered

    def _marked(self, send: Send, request_id: bytes, scope: Scope) -> Send:
        """Return a `send` that adds what every answer has."""

        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start":
                state = scope["state"]
                state["status"] = message["status"]
                given = [*message["headers"]]
                message["headers"] = self._added_to(given, request_id, is_undone="dry_run" in state)
                if self._app.draining:
                    message["headers"].append(LAST)
            await send(message)

        return mark

    def _handler(self, error: Exception) -> tuple[Handler, bool]:
        """Return what renders the failure, and whether it is one that somebody expected."""
        handlers: Mapping[Any, Any] = self._app.exception_handlers
        for kind in type(error).__mro__:
            if kind in handlers:
                return handlers[kind], kind is not Exception
        raise error


def odd_path(scope: Scope) -> ApictlError | None:
    """Return why a path leads nowhere that means something else to who stands in front, or reads a log.

    It has an encoded slash, or what is not seen at all: as a newline, before which a pattern's `$` matches.
    """
    if not scope["path"].isprintable():
        # As the terminal says it of such a name.
        return InvalidInput("The path has characters that nobody sees")
    return RouteNotFound() if b"%2f" in scope["raw_path"].lower() else None


class Plans:
    """The plans of an application's routes, by method and path."""

    def __init__(self, contexts: Iterable[RouteContext], long_work: Mapping[tuple[str, str], str]) -> None:
        self._fixed: dict[tuple[str, str], Plan | None] = {}
        # By how a path begins, in the order of the routes.
        self._patterns: dict[str, list[tuple[str, RouteContext, Plan | None]]] = {}
        for context in contexts:
            try:
                plan = Plan(context)
            except NoPlanError:
                plan = None
            path = context.path or ""
            for method in sorted(context.methods or ()):
                if plan is not None and (method, path) in long_work:
                    plan.is_long = True
                if "{" not in path:
                    self._fixed.setdefault((method, path), plan)
                else:
                    self._patterns.setdefault(beginning(path), []).append((method, context, plan))

    def find(self, scope: Scope) -> tuple[Plan, dict[str, Any]] | None:
        """Return the plan for a request, and the parameters in its path; None where it goes FastAPI's own way."""
        if scope.get("root_path"):
            return None
        method, path = scope["method"], scope["path"]
        if (method, path) in self._fixed:
            plan = self._fixed[method, path]
            return None if plan is None else (plan, {})
        for other, context, plan in self._patterns.get(beginning(path), ()):
            if other == method and (match := context.path_regex.match(path)):
                convertors = context.param_convertors
                params = {name: convertors[name].convert(text) for name, text in match.groupdict().items()}
                return (plan, params) if plan is not None else None
        return None


def beginning(path: str) -> str:
    """Return the first two parts of a path, in which no route of ours has a parameter."""
    return "/".join(path.split("/", 3)[:3])
