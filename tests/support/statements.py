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
        if "FROM signing_keys" not in text and "clock_timestamp()" not in text:
            sent.append(Sent(text, arguments))

    def on_execute(_: Any, __: Any, text: str, arguments: Any, *___: Any) -> None:
        note(text, tuple(arguments))

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
