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
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.core.deadlines import Deadlines
from api.core.errors import BodyTooLarge, RequestTimeout
from api.core.plans import NoPlanError, Plan
from api.core.problems import response

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
HTTP_1: Final = ("1.0", "1.1")
NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
OURS: Final = (b"x-request-id", NOSNIFF[0])
# RFC 7240, section 3.
UNDONE: Final = (b"preference-applied", b"dry-run")
LAST: Final = (b"connection", b"close")
Handler = Callable[[Request, Exception], Awaitable[Response]]


class Application(FastAPI):
    """FastAPI, with our front before it."""

    max_body_bytes: int

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # By method and path: bodies that may be longer, in bytes.
        self.long_bodies: dict[tuple[str, str], int] = {}
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
        app: ASGIApp = Front(self, super().build_middleware_stack())
        self.user_middleware = added
        if not added:
            return app
        for cls, arguments, options in reversed(added):
            app = cls(app, *arguments, **options)
        return ServerErrorMiddleware(app, handler=self.exception_handlers.get(Exception))


class Front:
    """Gives each request an id, cuts off a body at the limit, and leads to the route by its plan where it has one."""

    def __init__(self, app: Application, usual: ASGIApp) -> None:
        self._app = app
        self._usual = usual
        self._plans = Plans(iter_route_contexts(app.routes), app.long_work)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._usual(scope, receive, send)
            return
        given, declared, has_body = b"", b"0", False
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
            elif name == b"content-length":
                declared, has_body = value, True
            elif name == b"transfer-encoding":
                has_body = True
        # Without them, there is no body in HTTP/1.
        has_body = has_body or scope.get("http_version") not in HTTP_1
        request_id = given if REQUEST_ID.fullmatch(given) else os.urandom(16).hex().encode()
        scope.setdefault("state", {}).update(request_id=request_id.decode(), has_body=has_body)
        if has_body:
            most = self._app.long_bodies.get((scope["method"], scope["path"]), self._app.max_body_bytes)
            # By its length first: a number of thousands of digits is none that int() would take.
            if len(declared) > 12 or not declared.isdigit() or int(declared) > most:
                # Nothing of it is read; what is under way on this connection is not another request.
                answer = response(BodyTooLarge(f"The body may have at most {most} bytes"), scope)
                answer.headers["Connection"] = "close"
                await answer(scope, receive, send)
                return
            receive = counted(receive, most)
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
        if not plan.is_long:
            deadlines.under_way[task] = deadlines.now
        try:
            answered = await plan.handle(request)
        except asyncio.CancelledError:
            if not deadlines.ended(task):
                raise
            answered = response(RequestTimeout(), scope)
        except Exception as error:
            deadlines.ended(task)
            handle, is_known = self._handler(error)
            refusal = await handle(request, error)
            if self._app.draining:
                refusal.raw_headers.append(LAST)
            await refusal(scope, receive, send)
            if not is_known:
                # The server logs its traceback.
                raise
            return
        finally:
            deadlines.ended(task)
        # In place of what a route may have said, by hand: Starlette's headers take longer for it than for all the rest.
        kept = [pair for pair in answered.raw_headers if pair[0] not in OURS]
        answered.raw_headers = [*kept, (b"x-request-id", request_id), NOSNIFF]
        if "dry_run" in scope["state"]:
            answered.raw_headers.append(UNDONE)
        if self._app.draining:
            answered.raw_headers.append(LAST)
        await answered(scope, receive, send)

    async def _go_the_usual_way(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        """Have FastAPI answer, in the same time."""
        deadlines, task = self._app.deadlines, asyncio.current_task()
        mark = marked(send, request_id, scope, is_last=self._app.draining)

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
            await response(RequestTimeout(), scope)(scope, receive, mark)
        finally:
            deadlines.ended(task)

    def _handler(self, error: Exception) -> tuple[Handler, bool]:
        """Return what renders the failure, and whether it is one that somebody expected."""
        handlers: Mapping[Any, Any] = self._app.exception_handlers
        for kind in type(error).__mro__:
            if kind in handlers:
                return handlers[kind], kind is not Exception
        raise error


def counted(receive: Receive, most: int) -> Receive:
    """Return a `receive` that ends when more has come than may, declared or not.

    FastAPI has a limit of its own, but answers in plain text, outside the one form of failure.
    """
    seen = 0

    async def count() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            # FastAPI takes any other exception here for a body that it cannot parse.
            raise HTTPException(413, headers={"Connection": "close"})
        return message

    return count


def marked(send: Send, request_id: bytes, scope: Scope, *, is_last: bool) -> Send:
    """Return a `send` that adds what every answer has."""

    async def mark(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = request_id.decode()
            headers["X-Content-Type-Options"] = "nosniff"
            if "dry_run" in scope["state"]:
                headers["Preference-Applied"] = "dry-run"
            if is_last:
                headers["Connection"] = "close"
        await send(message)

    return mark


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
