"""Pure ASGI middleware (BaseHTTPMiddleware would cost most of the throughput). HTTP only."""

import re
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.core.errors import BodyTooLarge
from api.core.ids import uuid7
from api.core.problems import response

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class BodyLimit:
    """Cuts off a request body at the limit, declared or not, before anything parses it.

    FastAPI has a limit of its own, but answers in plain text, outside the one form of failure.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        # By its length first: a number of thousands of digits is none that int() would take.
        if len(declared) > 12 or not declared.isdecimal() or int(declared) > self._max_bytes:
            # Nothing of it is read; what is under way on this connection is not another request.
            answer = response(BodyTooLarge(f"The body may have at most {self._max_bytes} bytes"), scope)
            answer.headers["Connection"] = "close"
            await answer(scope, receive, send)
            return
        seen = 0

        async def receive_counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                # FastAPI takes any other exception here for a body that it cannot parse.
                raise HTTPException(413, headers={"Connection": "close"})
            return message

        await self._app(scope, receive_counted, send)


class RequestId:
    """Gives each request an id, the client's own where it is well-formed, and returns it with the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid7().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, send_with_id)
