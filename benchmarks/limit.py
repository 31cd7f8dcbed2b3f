"""L1, the limit: what a careful engineer gets out of this machine with the same parts, and nothing around them.

Raw ASGI on uvicorn; a JWT (HS256) verified by PyJWT, one asyncpg query on a connection that nothing resets, orjson. It
believes its tokens: a session that was ended, or a user who was deactivated, goes on until the token's end.
"""

import os
import secrets
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import jwt
import orjson

SECRET: Final = os.environ["BENCH_SECRET"]
COLUMNS: Final = (
    "id, kind, email, name, full_name, is_active, is_superuser, roles, email_verified_at, created_at, updated_at, "
    "last_login_at, version"
)
ME: Final = f"SELECT {COLUMNS} FROM users WHERE id = $1"  # noqa: S608 - no value is in it
LIST: Final = f"SELECT {COLUMNS} FROM users WHERE kind = 'person' ORDER BY created_at, id LIMIT 51"  # noqa: S608
PAGE: Final = LIST.replace("ORDER", "AND (created_at, id) > ($1, $2) ORDER")
CREATE: Final = f"INSERT INTO users (id, email, password_hash) VALUES ($1, $2, $3) RETURNING {COLUMNS}"  # noqa: S608
ROTATE: Final = (
    "UPDATE sessions SET rotation = rotation + 1, rotated_at = now() WHERE id = $1 AND rotation = $2 "
    "AND revoked_at IS NULL AND expires_at > now() RETURNING user_id"
)
JSON: Final = (b"content-type", b"application/json")


class Limit:
    """The application; its pool is opened when the server starts."""

    def __init__(self) -> None:
        self._pool: asyncpg.Pool | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        status, body = await self._answer(scope, receive)
        headers = [JSON, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        self._pool = await asyncpg.create_pool(
            os.environ["BENCH_DATABASE_URL"], min_size=10, max_size=10, reset=unchanged
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._pool.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: dict[str, Any], receive: Any) -> tuple[int, bytes]:
        assert self._pool is not None
        path = scope["path"]
        if path == "/plain":
            return 200, dumps({"status": "ok"})
        if path == "/refresh":
            return await self._refresh(self._pool, await read(receive))
        user_id = bearer(scope)
        if user_id is None:
            return 401, dumps({"code": "invalid-token"})
        if path == "/me":
            row = await self._pool.fetchrow(ME, user_id)
            return 200, dumps(dict(row or {}))
        if scope["method"] == "POST":
            new = orjson.loads(await read(receive))
            row = await self._pool.fetchrow(CREATE, uuid4(), new["email"], new.get("password_hash"))
            return 201, dumps(dict(row or {}))
        at, _, after = scope["query_string"].decode().partition(",")
        rows = await (self._pool.fetch(PAGE, datetime.fromisoformat(at), UUID(after)) if at else self._pool.fetch(LIST))
        return 200, dumps({"items": [dict(row) for row in rows[:50]], "next_cursor": None})

    async def _refresh(self, pool: asyncpg.Pool, body: bytes) -> tuple[int, bytes]:
        claims = jwt.decode(orjson.loads(body)["refresh_token"], SECRET, algorithms=["HS256"])
        row = await pool.fetchrow(ROTATE, UUID(claims["sid"]), claims["rotation"])
        if row is None:
            return 400, dumps({"error": "invalid_grant"})
        answer = {
            "access_token": signed(sub=str(row["user_id"]), sid=claims["sid"]),
            "refresh_token": signed(sid=claims["sid"], rotation=claims["rotation"] + 1),
            "expires_in": 900,
            "token_type": "bearer",
        }
        return 200, dumps(answer)


async def unchanged(_connection: Any) -> None:
    """Leave a connection that comes back to the pool as it is."""


async def read(receive: Any) -> bytes:
    """Return a request's body."""
    body: bytes = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


def bearer(scope: dict[str, Any]) -> UUID | None:
    """Return the user that the request's token names; None if it is not good."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            try:
                return UUID(jwt.decode(value[7:], SECRET, algorithms=["HS256"])["sub"])
            except (jwt.PyJWTError, KeyError, ValueError):
                return None
    return None


def signed(**claims: Any) -> str:
    """Return a token for what it says, good for an hour."""
    return jwt.encode({"jti": secrets.token_hex(16), "exp": 2**31, **claims}, SECRET, algorithm="HS256")


def dumps(value: Any) -> bytes:
    """Return the JSON of a value; orjson does not know asyncpg's own class of UUIDs."""
    encoded: bytes = orjson.dumps(value, default=str)
    return encoded


app = Limit()
