"""The declarative base and the engine. No table and no query belongs here."""

import logging
from asyncio import CancelledError
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Final

from sqlalchemy import Connection, DateTime, MetaData, Text, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry

from api.config import Settings
from api.core.connecting import connect, log_statement, unprepared

LOG: Final = logging.getLogger(__name__)
NAMING_CONVENTION: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Every table's base; the convention names each constraint, so that a migration can drop it by name."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar = {str: Text(), datetime: DateTime(timezone=True)}


def make_engine(url: str, settings: Settings, *, pool_size: int | None = None, patient: bool = False) -> AsyncEngine:
    """Return an engine for any URL of PostgreSQL; connects at the first use.

    With `patient`, a statement may take as long as it takes: migrations do.

    Raises:
        BadSettings: The URL cannot be read.
    """
    options = unprepared(pool_size) | ({"command_timeout": None} if patient else {})

    def connected() -> Any:
        return connect(url, settings, **options)

    def adapted() -> Any:
        # `async_creator` would leave SQLAlchemy's own cache as it is.
        size = 100 if pool_size is None else 0
        return engine.dialect.dbapi.connect(async_creator_fn=connected, prepared_statement_cache_size=size)  # type: ignore[union-attr]

    engine = create_async_engine(
        "postgresql+asyncpg://",
        creator=adapted,
        pool_size=pool_size or settings.pool_size,
        max_overflow=0,
        pool_timeout=settings.pool_timeout,
        # A pre-ping costs a round trip on every request, and a broken connection is retried by the caller anyway.
        pool_pre_ping=False,
        # Values of a failed statement may be personal or secret; they must not reach a log.
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "handle_error", cut_off)
    event.listen(engine.sync_engine, "close", close_at_once)
    if LOG.isEnabledFor(logging.INFO):
        log_what_it_does(engine)
    return engine


def cut_off(context: ExceptionContext) -> None:
    """Have a connection closed whose statement was not answered in time, and the pool's others made anew.

    SQLAlchemy would ask for a ROLLBACK on it; and if the network forgot one of them, it forgot all.
    """
    if context.connection is not None and isinstance(context.original_exception, TimeoutError | CancelledError):
        context.is_disconnect = context.invalidate_pool_on_disconnect = True
        context.connection.info["cut_off"] = True


def close_at_once(connection: Any, record: ConnectionPoolEntry) -> None:
    """Close an idle connection without waiting for the database's consent: who knows whether it is still there?

    What is cut off in the middle has two seconds, in which the database is told that nobody waits for its statement.
    """
    if not record.info.get("cut_off"):
        connection.driver_connection.terminate()


def log_what_it_does(engine: AsyncEngine) -> None:
    """Log every statement of an engine, and how each transaction ends."""

    def ended(how: str, connection: Connection) -> None:
        # In autocommit mode SQLAlchemy says so too, and nothing was open.
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            LOG.info("transaction %s", how)

    event.listen(engine.sync_engine, "before_cursor_execute", lambda *sent: log_statement(sent[2]))
    event.listen(engine.sync_engine, "commit", partial(ended, "committed"))
    event.listen(engine.sync_engine, "rollback", partial(ended, "rolled back"))
