"""Which web sites' pages may read our answers in a browser: none, unless a deployment names them. HTTP only.

Not Starlette's middleware: it refuses in plain text, outside the one form of failure, and leaves out `Vary` where
nobody of another site asks, so that a cache would give the answer to somebody who does.
"""

from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

VARY: Final = (b"vary", b"Origin")
# What a page can read of an answer besides its body.
READABLE: Final = (
    "Apictl-Changed, ETag, Idempotency-Replayed, Location, Preference-Applied, Retry-After, WWW-Authenticate, "
    "X-Request-Id"
)
EXPOSED: Final = (b"access-control-expose-headers", READABLE.encode())
# What it may send. No cookies: we have none, and `Authorization` is only sent by whoever has a token.
PREFLIGHT: Final = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, Idempotency-Key, If-Match, Prefer, X-Request-Id"),
    (b"access-control-max-age", b"600"),
)


class Cors:
    """Middleware that tells browsers so (the Fetch standard, section 3.3)."""

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = {origin.encode() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight of a site that may ask; add to every other answer whether it may be read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"")
        more = [VARY]
        if origin in self._origins:
            more += [(b"access-control-allow-origin", origin), EXPOSED]
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await send({"type": "http.response.start", "status": 204, "headers": [*more, *PREFLIGHT]})
                await send({"type": "http.response.body"})
                return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self._app(scope, receive, told)
