"""The declarative base, and how a PostgreSQL URL becomes an engine. No table and no query belongs here."""

from datetime import datetime
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import asyncpg
from sqlalchemy import DateTime, MetaData, Text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from api.config import Settings
from api.core.errors import BadSettings

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


def to_dsn(url: str) -> str:
    """Return the URL in the one form that asyncpg reads, whatever form people had.

    `postgres://`, `postgresql+psycopg://` and the like lose their driver; the rest (several hosts, a socket's
    folder, IPv6, `sslmode`, `target_session_attrs`) is asyncpg's to read, because it reads it as libpq does.
    """
    parts = urlsplit(url)
    # libpq's name for what asyncpg takes as an argument; asyncpg would send it to the server as a setting.
    query = [(key, value) for key, value in parse_qsl(parts.query) if key != "connect_timeout"]
    encoded = "&".join(f"{key}={quote(value, safe='/:,')}" for key, value in query)
    # urlunsplit would drop the empty host of `postgresql:///name?host=/socket`.
    return f"postgresql://{parts.netloc}{parts.path}" + (f"?{encoded}" if encoded else "")


def redact(url: str) -> str:
    """Return the URL without its password, fit to be shown."""
    parts = urlsplit(url)
    userinfo, at, hosts = parts.netloc.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    netloc = f"{user}{':***' if colon else ''}{at}{hosts}"
    query = "&".join(f"{key}={'***' if 'password' in key else value}" for key, value in parse_qsl(parts.query))
    return urlunsplit(parts._replace(netloc=netloc, query=query)).replace("postgresql:/?", "postgresql:///?")


async def connect(url: str, settings: Settings, **options: Any) -> asyncpg.Connection:
    """Return a connection, through asyncpg's own reader of URLs, because SQLAlchemy's knows fewer forms of them.

    Raises:
        BadSettings: The URL cannot be read.
    """
    usual = {"timeout": settings.connect_timeout, "command_timeout": settings.statement_timeout}
    try:
        return await asyncpg.connect(to_dsn(url), server_settings={"application_name": "apictl"}, **(usual | options))
    except (ValueError, asyncpg.ClientConfigurationError):
        # Not in their words, which can repeat a part of the password.
        raise BadSettings(
            "APICTL_DATABASE_URL cannot be read",
            hint="postgresql://USER:PASSWORD@HOST:PORT/NAME, with : / ? # @ % in the password percent-encoded",
        ) from None


def unprepared(pool_size: int | None) -> dict[str, Any]:
    """Return how to connect for a process with so many connections; None: a server.

    A server prepares each statement once a connection. Whoever has few connections of their own, as a terminal or a
    migration does, asks each once, and may ask through PgBouncer, where what is prepared stays behind with somebody
    else's connection: nothing is prepared there.
    """
    return {} if pool_size is None else {"statement_cache_size": 0}


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
    return engine
