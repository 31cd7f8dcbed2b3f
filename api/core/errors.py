"""The one table of failures that both doors render.

What belongs here: the kinds (each with its HTTP status and exit code), the base class, and the failures that no
feature owns. A feature's own failures stand at the top of its `service.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import islice
from typing import Any, ClassVar, Self

from api.core.words import WORDS

# Refused fields that a failure names, at most.
MAX_ERRORS = 50


class Kind(Enum):
    """What a failure means to the caller: an HTTP status and a process exit code.

    Only the kinds with exit code 7 are worth a retry.
    """

    INTERNAL = (500, 1)
    USAGE = (400, 2)
    METHOD = (405, 2)
    TOO_LARGE = (413, 2)
    TARGET_TOO_LONG = (414, 2)
    MEDIA_TYPE = (415, 2)
    MISDIRECTED = (421, 2)
    HEAD_TOO_LARGE = (431, 2)
    NOT_FOUND = (404, 3)
    NOT_AUTHENTICATED = (401, 4)
    NOT_PERMITTED = (403, 4)
    # What RFC 6749 answers with 400, because the credentials are in the body.
    CREDENTIALS = (400, 4)
    CONFLICT = (409, 5)
    STALE = (412, 5)
    INVALID = (422, 6)
    TOO_SLOW = (408, 7)
    RATE_LIMITED = (429, 7)
    UNAVAILABLE = (503, 7)
    TIMEOUT = (504, 7)
    DECLINED = (400, 8)
    SCHEMA = (503, 11)
    MISCONFIGURED = (503, 12)

    def __init__(self, status: int, exit_code: int) -> None:
        self.status = status
        self.exit_code = exit_code


class FieldError(dict[str, str]):
    """One refused field: `{"field": "email", "message": "…"}`, with the machine's word in `code`."""

    def __init__(self, field: str, message: str, code: str = "invalid") -> None:
        super().__init__(field=field, message=message, code=code)

    @classmethod
    def of(cls, refused: Mapping[str, Any], field: str) -> Self:
        """Return what one of Pydantic's errors says, without what was sent: it may be secret, or unprintable."""
        words = WORDS.get(refused["type"]) or refused["msg"].removeprefix("Value error, ")
        return cls(field, words, refused["type"])


def field_name(location: Sequence[str | int]) -> str:
    """Return where a refused value stood; names that a client made up are escaped and cut."""
    name = ".".join(str(part) for part in location if part not in {"body", "query", "path"}) or "body"
    return name.encode("ascii", "backslashreplace").decode()[:100]


class ApictlError(Exception):
    """A failure that the caller can understand and act on.

    Attributes:
        detail: What went wrong, in a sentence.
        cause: Why, where that is known (the driver's or the system's own words, without secrets).
        hint: What to do next, the exact command where there is one.
        errors: The refused fields, for failures of validation.
        retry_after: Seconds to wait before a retry is worth it.
    """

    kind: ClassVar[Kind] = Kind.INTERNAL
    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "The server failed"
    default_retry_after: ClassVar[int | None] = None
    default_hint: ClassVar[str | None] = None
    media_type: ClassVar[str] = "application/problem+json"
    # What a 401 asks for (RFC 9110, section 11.6.1).
    authenticate: ClassVar[str] = 'Bearer realm="apictl"'
    registry: ClassVar[dict[str, type["ApictlError"]]] = {}

    def __init_subclass__(cls) -> None:
        """Register the code, so that a test can hold the documentation to the table."""
        taken = ApictlError.registry.setdefault(cls.code, cls)
        if taken is not cls and taken.__qualname__ != cls.__qualname__:
            raise TypeError(f"error code {cls.code!r} belongs to {taken.__qualname__} already")

    def __init__(
        self,
        detail: str | None = None,
        *,
        cause: str | None = None,
        hint: str | None = None,
        errors: Sequence[FieldError] = (),
        retry_after: int | None = None,
    ) -> None:
        self.detail = detail or self.title
        self.cause = cause
        self.hint = hint or self.default_hint
        self.errors = tuple(errors)
        self.retry_after = self.default_retry_after if retry_after is None else retry_after
        super().__init__(self.detail)

    @classmethod
    def of_fields(cls, errors: Sequence[FieldError], *, hint: str | None = None) -> Self:
        """Return the failure for refused fields: it tells the first one, and names as many as there is room for."""
        return cls(f"{errors[0]['field']}: {errors[0]['message']}", errors=errors[:MAX_ERRORS], hint=hint)

    def problem(self, *, instance: str = "", request_id: str = "") -> dict[str, Any]:
        """Return the problem object (RFC 9457) that both doors print."""
        content: dict[str, Any] = {
            "type": f"urn:apictl:problem:{self.code}",
            "title": self.title,
            "status": self.kind.status,
            "code": self.code,
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
        }
        optional = {"cause": self.cause, "hint": self.hint, "errors": list(self.errors)}
        return content | {name: value for name, value in optional.items() if value} | self.members()

    def members(self) -> dict[str, str]:
        """Return members that the problem object has besides RFC 9457's; none, for most failures."""
        return {}


class InternalError(ApictlError):
    """A bug of ours; carries an id under which the log holds the traceback."""


class BadRequest(ApictlError):
    """The request could not be read, or asks for something that does not exist."""

    kind = Kind.USAGE
    code = "bad-request"
    title = "The request could not be understood"


class MissingInput(ApictlError):
    """Something had to be asked for, and there is nobody to ask."""

    kind = Kind.USAGE
    code = "missing-input"
    title = "Input is missing and there is no terminal to ask on"


class RouteNotFound(ApictlError):
    """No such path."""

    kind = Kind.NOT_FOUND
    code = "route-not-found"
    title = "There is nothing at this address"
    default_hint = "/docs lists every route"


class BodyTooLarge(ApictlError):
    """The request body is over the limit."""

    kind = Kind.TOO_LARGE
    code = "body-too-large"
    title = "The request body is too large"


class InvalidInput(ApictlError):
    """Well-formed, but refused: `errors` names each field and why."""

    kind = Kind.INVALID
    code = "invalid-input"
    title = "Some of the input was refused"

    @classmethod
    def of(cls, refused: Iterable[Mapping[str, Any]]) -> Self:
        """Return the failure for Pydantic's errors."""
        # A body can have thousands of fields that nobody asked for.
        errors = [FieldError.of(item, field_name(item["loc"])) for item in islice(refused, MAX_ERRORS)]
        summary = "; ".join(f"{item['field']}: {item['message']}" for item in errors[:3])
        return cls(f"Some of the input was refused: {summary}", errors=errors)


class MissingScope(ApictlError):
    """The caller is known, but may not do this."""

    kind = Kind.NOT_PERMITTED
    code = "missing-scope"
    title = "You may not do this"
    default_hint = "roles and tokens are made of scopes: apictl explain says what decides, apictl grant-role changes it"

    # Whether they lack only what it takes to read: no matter for the audit log.
    is_about_reading: bool = False


class NotAuthenticated(ApictlError):
    """No credentials were sent."""

    kind = Kind.NOT_AUTHENTICATED
    code = "not-authenticated"
    title = "Credentials are needed"


class StaleVersion(ApictlError):
    """Somebody changed the object since the caller read it."""

    kind = Kind.STALE
    code = "stale-version"
    title = "It was changed since you read it"

    @classmethod
    def check(cls, what: str, *, now: int, expected: int | None) -> None:
        """Go on only if something is at the version that the caller read; None: whatever it is at.

        Raises:
            StaleVersion: It is not. A tag that names no version at all is 0 here.
        """
        if expected is not None and now != expected:
            raise cls(
                f"{what} is at version {now}" + (f", not {expected}" if expected else ""),
                hint="read it again, then decide again",
            )


class Conflict(ApictlError):
    """The database refused a duplicate or a reference that no rule of ours named."""

    kind = Kind.CONFLICT
    code = "conflict"
    title = "This contradicts what is stored"


class DatabaseUnreachable(ApictlError):
    """The database does not answer, or has no connection to spare."""

    kind = Kind.UNAVAILABLE
    code = "database-unreachable"
    title = "The database cannot be reached"
    default_retry_after = 1


class DatabaseTimeout(ApictlError):
    """A statement or a lock took longer than its limit."""

    kind = Kind.TIMEOUT
    code = "database-timeout"
    title = "The database took too long"
    default_retry_after = 1


class RequestTimeout(ApictlError):
    """A request took longer than it may; what it had not committed was undone."""

    kind = Kind.TIMEOUT
    code = "request-timeout"
    title = "The request took too long, and was cut off"
    default_hint = "try again; if it stays so, look at the database's load"
    default_retry_after = 1


class OutcomeUnknown(ApictlError):
    """The database was told to commit, and was not heard of again in time."""

    kind = Kind.TIMEOUT
    code = "outcome-unknown"
    title = "It may have been done, or not: the database's answer did not come"
    default_hint = "under the same idempotency key, do it again; without one, look first whether it was done"
    default_retry_after = 1


class Stopping(ApictlError):
    """The server was told to stop: whoever shares out requests is to ask another one."""

    kind = Kind.UNAVAILABLE
    code = "stopping"
    title = "This server is about to stop"
    default_retry_after = 1


class Busy(ApictlError):
    """The process has as much of this work queued as it takes."""

    kind = Kind.UNAVAILABLE
    code = "busy"
    default_retry_after = 1
    title = "Too much of this is going on; try again"


class SchemaBehind(ApictlError):
    """The database's schema is not the one that this code was built for."""

    kind = Kind.SCHEMA
    code = "schema-behind"
    title = "The database is not at this version's schema"
    default_retry_after = 5


class Declined(ApictlError):
    """The person at the prompt said no."""

    kind = Kind.DECLINED
    code = "declined"
    title = "Nothing was changed"


class BadSettings(ApictlError):
    """The configuration cannot work; nothing was started."""

    kind = Kind.MISCONFIGURED
    code = "bad-settings"
    title = "The settings cannot work"
