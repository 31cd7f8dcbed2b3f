"""The declarative base and the engine. No table and no query belongs here."""

import logging
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Final

from sqlalchemy import Connection, DateTime, MetaData, Text, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase

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
    if LOG.isEnabledFor(logging.INFO):
        log_what_it_does(engine)
    return engine


def log_what_it_does(engine: AsyncEngine) -> None:
    """Log every statement of an engine, and how each transaction ends."""

    def ended(how: str, connection: Connection) -> None:
        # In autocommit mode SQLAlchemy says so too, and nothing was open.
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            LOG.info("transaction %s", how)

    event.listen(engine.sync_engine, "before_cursor_execute", lambda *sent: log_statement(sent[2]))
    event.listen(engine.sync_engine, "commit", partial(ended, "committed"))
    event.listen(engine.sync_engine, "rollback", partial(ended, "rolled back"))
