"""How the database's failures become ours: the last resort behind the rules that each statement decides."""

import asyncio
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from asyncpg import PostgresError
from asyncpg.exceptions import InterfaceError as AsyncpgInterfaceError
from asyncpg.exceptions import InternalClientError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.core.errors import (
    ApictlError,
    BadSettings,
    Conflict,
    DatabaseTimeout,
    DatabaseUnreachable,
    InvalidInput,
    SchemaBehind,
)

DATABASE_ERRORS: Final = (
    DBAPIError,
    PostgresError,
    AsyncpgInterfaceError,
    InternalClientError,
    PoolTimeout,
    TimeoutError,
    OSError,
)

IN_USE: Final = "Every database connection of this process is in use"
NONE_FREE: Final = "none was given back in time (APICTL_POOL_TIMEOUT)"
NO_ANSWER: Final = "no answer to a statement in time (APICTL_STATEMENT_TIMEOUT)"
TO_PRIMARY: Final = "point APICTL_DATABASE_URL at the primary"
GRANT: Final = "grant it, or use the role that owns the tables"


@contextmanager
def translated() -> Iterator[None]:
    """Turn a database failure inside the block into the error table's.

    Raises:
        ApictlError: For every failure of the database, the driver, the pool or the network.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        failure = translate(error) if is_the_driver_s(error) else None
        if failure is None:
            raise
        raise failure from error


def is_the_driver_s(error: BaseException) -> bool:
    """Tell whether the error was raised below SQLAlchemy or asyncpg.

    Both let the operating system's errors through as they are, and those can as well come from anything else that a
    service does.
    """
    return any(
        str(frame.f_globals.get("__name__")).partition(".")[0] in {"asyncpg", "sqlalchemy"}
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def is_cut_off(error: BaseException) -> bool:
    """Tell whether what was sent may have been done all the same: the database's answer to it did not come."""
    if isinstance(error, PoolTimeout) or not isinstance(error, (asyncio.CancelledError, *DATABASE_ERRORS)):
        return False
    cause = (error.orig and (error.orig.__cause__ or error.orig)) if isinstance(error, DBAPIError) else error
    state = getattr(cause, "sqlstate", None)
    if state is None:
        # What asyncpg refuses to send.
        return not isinstance(cause, AsyncpgInterfaceError)
    return str(state).startswith(("08", "57P"))


def translate(error: BaseException) -> ApictlError | None:
    """Return what the failure means, or None where it means a bug of ours."""
    if isinstance(error, PoolTimeout):
        return DatabaseUnreachable(IN_USE, cause=NONE_FREE, hint="try again; or raise APICTL_POOL_SIZE")
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return DatabaseUnreachable(cause=driver_words(error))
        original = error.orig
        state = getattr(original, "sqlstate", None)
        return by_sqlstate(state, driver_words(error)) if state else translate_driver(original)
    state = getattr(error, "sqlstate", None)
    # Its first line: the others may have values.
    return by_sqlstate(state, str(error).partition("\n")[0]) if state else translate_driver(error)


def translate_driver(error: BaseException | None) -> ApictlError | None:
    """Return what a failure without an SQLSTATE means: the network's, or a value the driver cannot encode."""
    # SQLAlchemy wraps asyncpg's own exceptions once more.
    cause = error.__cause__ or error if error is not None else None
    # One that asyncpg raises itself has another cause: it was cancelled for it.
    if isinstance(error, TimeoutError) or isinstance(cause, TimeoutError):
        # The system's own has words; asyncpg's, which has none, is the limit of a statement.
        return DatabaseTimeout(
            cause=str(cause) or NO_ANSWER, hint="try again; if it stays so, look at the database's load"
        )
    if isinstance(cause, OSError | AsyncpgInterfaceError | InternalClientError):
        # asyncpg refuses a value that it cannot encode by a class of its own that it does not export.
        if type(cause).__name__ == "DataError":
            return InvalidInput("A value does not fit its column")
        return DatabaseUnreachable(
            cause=str(cause) or type(cause).__name__, hint="check that it runs, and APICTL_DATABASE_URL"
        )
    return None


def wrong_url(words: str) -> BadSettings:
    """Return what a refused login or a missing database means: the URL is wrong."""
    return BadSettings("The database refuses the login", cause=words, hint="correct APICTL_DATABASE_URL")


def by_sqlstate(state: str, words: str) -> ApictlError | None:
    """Return what PostgreSQL's five-character code means to a caller."""
    for prefix, make in BY_SQLSTATE:
        if state.startswith(prefix):
            return make(words)
    return None


# The first prefix that matches decides. https://www.postgresql.org/docs/current/errcodes-appendix.html
BY_SQLSTATE: Final[tuple[tuple[str, Callable[[str], ApictlError]], ...]] = (
    ("28", wrong_url),
    ("3D000", wrong_url),
    (
        "3F000",
        lambda words: BadSettings(
            "The database lacks the schema that we are to work in", cause=words, hint="CREATE SCHEMA, or search_path"
        ),
    ),
    ("42P01", lambda words: SchemaBehind(cause=words, hint="run: apictl migrate")),
    ("42703", lambda words: SchemaBehind(cause=words, hint="run: apictl migrate")),
    ("40001", lambda _: DatabaseUnreachable("Two writers got in each other's way", hint="try again")),
    ("40P01", lambda _: DatabaseUnreachable("Two writers got in each other's way", hint="try again")),
    ("55P03", lambda words: DatabaseTimeout(cause=words)),
    ("57014", lambda words: DatabaseTimeout(cause=words)),
    ("22", lambda _: InvalidInput("A value does not fit its column")),
    ("54", lambda _: InvalidInput("A value is too large for its column")),
    ("23", lambda _: Conflict()),
    ("25006", lambda words: DatabaseUnreachable("The database is read-only", cause=words, hint=TO_PRIMARY)),
    # A transaction, or the pause in one, was longer than the database allows.
    ("25P03", lambda words: DatabaseTimeout(cause=words)),
    ("25P04", lambda words: DatabaseTimeout(cause=words)),
    ("42501", lambda words: BadSettings("The database's role lacks a permission", cause=words, hint=GRANT)),
    ("08", lambda words: DatabaseUnreachable(cause=words)),
    ("53100", lambda words: DatabaseUnreachable("The database's disk is full", cause=words, hint="make room there")),
    ("53", lambda words: DatabaseUnreachable(cause=words)),
    ("57P", lambda words: DatabaseUnreachable(cause=words)),
    ("58", lambda words: DatabaseUnreachable(cause=words)),
)


def driver_words(error: DBAPIError) -> str:
    """Return the driver's own message: PostgreSQL's primary line, which carries no row values."""
    cause = error.orig.__cause__ if error.orig is not None else None
    return str(cause or error.orig).partition("\n")[0]
