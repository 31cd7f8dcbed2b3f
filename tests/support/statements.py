"""What an application sends to its database, one way or the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import asyncpg
from fastapi import FastAPI
from sqlalchemy import event

from api.core.direct import Direct, Statement


class Sent(NamedTuple):
    """One statement, and its parameters in their order."""

    text: str
    arguments: tuple[Any, ...]


@contextmanager
def statements(app: FastAPI) -> Iterator[list[Sent]]:
    """Note every statement that is sent meanwhile, but for the keys that somebody reads once a second."""
    sent: list[Sent] = []
    engine = app.state.runtime.engine.sync_engine
    fetch = Direct.fetch

    def note(text: str, arguments: tuple[Any, ...]) -> None:
        if not any(word in text for word in ("FROM signing_keys", "clock_timestamp()", "SAVEPOINT")):
            sent.append(Sent(text, arguments))

    def on_execute(_: Any, __: Any, text: str, arguments: Any, ___: Any, is_many: bool) -> None:
        note(text, tuple(arguments[0] if is_many else arguments))

    async def watched(self: Direct, statement: Statement, **values: Any) -> list[asyncpg.Record]:
        note(statement.text, tuple(statement.arguments(values)))
        return await fetch(self, statement, **values)

    event.listen(engine, "before_cursor_execute", on_execute)
    Direct.fetch = watched  # type: ignore[method-assign]
    try:
        yield sent
    finally:
        Direct.fetch = fetch  # type: ignore[method-assign]
        event.remove(engine, "before_cursor_execute", on_execute)


async def plan(database: asyncpg.Connection, sent: Sent, *, analyze: bool = False) -> dict[str, Any]:
    """Return how PostgreSQL would carry out a statement; or, with `analyze`, how it did."""
    prepared = await database.prepare(sent.text)
    found: list[dict[str, dict[str, Any]]] = await prepared.explain(*sent.arguments, analyze=analyze)
    return found[0]["Plan"]


def nodes(of: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every step of a plan."""
    yield of
    for inner in of.get("Plans", ()):
        yield from nodes(inner)
