"""How a run of migrations fails, and what that means."""

from sqlalchemy.exc import DBAPIError

from api.core.errors import ApictlError, Kind
from api.core.failures import driver_words, translate
from api.migrations.revisions import Revision


class MigrationRunning(ApictlError):
    """Another process is migrating, and it takes long."""

    kind = Kind.UNAVAILABLE
    code = "migration-running"
    title = "Another migration is running"
    default_hint = "wait for it, then run this again"
    default_retry_after = 10


class MigrationBlocked(ApictlError):
    """Others hold locks that a migration needs."""

    kind = Kind.UNAVAILABLE
    code = "migration-blocked"
    title = "Others hold what the migration needs"
    default_retry_after = 60


class MigrationFailed(ApictlError):
    """A migration and the database contradict each other: what is stored, or what is there already."""

    kind = Kind.CONFLICT
    code = "migration-failed"
    title = "The migration failed"
    default_hint = "nothing of its transaction was kept; mend what the cause says, and run it again"


class OlderServers(ApictlError):
    """Servers of an older version still use what a migration takes away."""

    kind = Kind.CONFLICT
    code = "older-servers"
    title = "Servers of an older version are running"


def named(revision: Revision) -> str:
    """Return how a message calls a migration."""
    return f"migration {revision.id} ({revision.text})"


def failure(revision: Revision, error: Exception) -> ApictlError:
    """Return what it means that a migration failed, with its name and the statement that failed."""
    hint = MigrationFailed.default_hint
    if revision.commits:
        hint = "a part of it may be there, because it ran outside of a transaction; mend the cause, and run it again"
    if isinstance(error, ApictlError):
        return error
    what = f"Migration {revision.id} ({revision.text}) failed"
    if not isinstance(error, DBAPIError):
        return MigrationFailed(what, cause=f"{type(error).__name__}: {error}", hint=hint)
    statement = statement_of(error)
    cause = driver_words(error) + (f"; in: {statement}" if statement else "")
    meant = translate(error)
    if meant is None or meant.kind in {Kind.INVALID, Kind.CONFLICT, Kind.SCHEMA}:
        return MigrationFailed(what, cause=cause, hint=hint)
    # The disk, the network, a permission, the time: the migration is not to blame.
    hint = meant.hint or "run it again; if it takes longer than it may, with another --statement-timeout"
    return type(meant)(f"{what}: {meant.detail}", cause=cause, hint=hint, retry_after=meant.retry_after)


def statement_of(error: Exception) -> str:
    """Return the statement that failed, in a line, without its values."""
    return " ".join(str(getattr(error, "statement", None) or "").split())[:300]
