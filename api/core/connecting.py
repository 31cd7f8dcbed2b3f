"""How a PostgreSQL URL becomes a connection. SQLAlchemy, which takes long to import, has no part in it."""

import logging
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import asyncpg

from api.config import Settings
from api.core.errors import BadSettings, DatabaseTimeout

LOG: Final = logging.getLogger(__name__)


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
        DatabaseTimeout: It was not let in in time.
    """
    usual = {"timeout": settings.connect_timeout, "command_timeout": settings.statement_timeout}
    try:
        found = await asyncpg.connect(to_dsn(url), server_settings={"application_name": "apictl"}, **(usual | options))
    except (ValueError, asyncpg.ClientConfigurationError):
        # Not in their words, which can repeat a part of the password.
        raise BadSettings(
            "APICTL_DATABASE_URL cannot be read",
            hint="postgresql://USER:PASSWORD@HOST:PORT/NAME, with : / ? # @ % in the password percent-encoded",
        ) from None
    except TimeoutError as error:
        # The system's own, which comes where packets are lost for long, has words.
        limit = f"no connection within {(usual | options)['timeout']:g} s (APICTL_CONNECT_TIMEOUT)"
        hint = "try again; if it stays so, look at the database, and at the network on the way to it"
        raise DatabaseTimeout(cause=str(error) or limit, hint=hint) from error
    LOG.info("connected to %s", redact(url))
    return found


def log_statement(text: str) -> None:
    """Log a statement, on one line and without its values, which may be personal or secret."""
    if LOG.isEnabledFor(logging.DEBUG):
        LOG.debug("%s", " ".join(text.split()))


def unprepared(pool_size: int | None) -> dict[str, Any]:
    """Return how to connect for a process with so many connections; None: a server.

    A server prepares each statement once a connection. Whoever has few connections of their own, as a terminal or a
    migration does, asks each once, and may ask through PgBouncer, where what is prepared stays behind with somebody
    else's connection: nothing is prepared there.
    """
    return {} if pool_size is None else {"statement_cache_size": 0}
