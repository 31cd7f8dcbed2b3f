"""How a request is done once: what is compared of it, and what is kept of its answer. HTTP only."""

import orjson
from fastapi import FastAPI, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from api.core.actor import Actor
from api.idempotency.service import Once

# What is worked out anew.
NOT_KEPT = (b"content-length",)


class Replayed(Exception):
    """The request was done before; this is what was answered."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer


async def begin_once(request: Request, session: AsyncSession, actor: Actor, key: str) -> None:
    """Look whether a request was done before; if not, what it will be answered is kept with what it does.

    Raises:
        Replayed: It was.
        RequestInProgress: It is being done.
        IdempotencyKeyReused: The key stands for another request.
    """
    scope = request.scope
    if "keep" not in scope["state"]:
        raise RuntimeError(f"{scope['path']} goes FastAPI's own way, where no answer can be kept: see api.core.plans")
    conditions = [value for name, value in scope["headers"] if name in {b"if-match", b"content-type"}]
    asked = (scope["method"].encode(), scope["path"].encode(), scope["query_string"], *conditions)
    once = Once(session, actor, key, *asked, await request.body())
    before = await once.find()
    if before is not None:
        raise Replayed(before)

    async def keep(response: Response) -> None:
        pairs = [pair for pair in response.raw_headers if pair[0] not in NOT_KEPT]
        headers = [[part.decode("latin-1") for part in pair] for pair in pairs]
        kept = {"status": response.status_code, "headers": headers, "body": bytes(response.body).decode()}
        await once.keep(orjson.dumps(kept))

    scope["state"]["keep"] = keep


async def on_replayed(_: Request, error: Exception) -> Response:
    """Answer as the first time, and say so."""
    assert isinstance(error, Replayed)  # noqa: S101 - registered for this class only
    kept = orjson.loads(error.answer)
    response = Response(kept["body"], kept["status"])
    response.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept["headers"]]
    response.headers["Content-Length"] = str(len(response.body))
    response.headers["Idempotency-Replayed"] = "true"
    return response


def install(app: FastAPI) -> None:
    """Have the application answer with what was done before."""
    app.add_exception_handler(Replayed, on_replayed)
