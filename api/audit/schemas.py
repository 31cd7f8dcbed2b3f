"""What goes in and out about the audit log."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from api.core.actor import Door
from api.core.pagination import Limit, Page
from api.core.text import Line
from api.users.schemas import Body

Outcome = Literal["done", "refused", "failed"]
NUMBER = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_.]{0,62}$")]


def is_written_out(moment: Any) -> Any:
    """Return what may be a time: Pydantic takes `0.5` for one, half a second after 1970.

    Raises:
        ValueError: It is a number.
    """
    if isinstance(moment, int | float) or (isinstance(moment, str) and NUMBER.fullmatch(moment.strip())):
        raise ValueError("it is a number, and no time as 2026-11-26T08:00:00Z")
    return moment


def in_utc(moment: datetime) -> datetime:
    """Return a time in UTC; one that names no zone is there already.

    Raises:
        ValueError: It is before the first year or after the last one there.
    """
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is no time that there is in UTC") from None


Moment = Annotated[datetime, BeforeValidator(is_written_out), AfterValidator(in_utc)]


class AuditFilter(BaseModel):
    """Which entries of the audit log; what is left out leaves nothing out."""

    model_config = ConfigDict(extra="forbid")

    actor: Annotated[
        Line | None,
        Field(
            max_length=320,
            description="Who did it: a user's id, address or name, by whichever key or operator in their place; or an "
            "operator, or `nobody`, as the log has them.",
        ),
    ] = None
    action: Annotated[Word | None, Field(description="What was done, as `user.create`.")] = None
    target: Annotated[Word | None, Field(description="The kind of what it was done to, as `user`.")] = None
    target_id: Annotated[
        Line | None,
        Field(max_length=320, description="The id of what it was done to; of an account, its address or name too."),
    ] = None
    door: Annotated[Door | None, Field(description="`http`, or `cli`: with access to the database.")] = None
    outcome: Annotated[
        Outcome | None,
        Field(
            description="`done`; `refused`: a login, a wrong current password, or for lack of a scope; or `failed`: a "
            "migration."
        ),
    ] = None
    request_id: Annotated[Line | None, Field(max_length=64, description="The request, as its answer named it.")] = None
    since: Annotated[Moment | None, Field(description="From then on (ISO 8601; without a zone, UTC).")] = None
    until: Annotated[Moment | None, Field(description="Before then.")] = None


class AuditQuery(AuditFilter):
    """Which entries to list: the newest first."""

    limit: Annotated[Limit, Field(description="Entries a page.")] = 50
    cursor: Annotated[Line | None, Field(max_length=1000, description="`next_cursor` of the page before.")] = None


class AuditRead(BaseModel):
    """An entry of the audit log, as both doors show it."""

    model_config = ConfigDict(from_attributes=True, extra="forbid")

    id: UUID
    at: datetime
    actor: Annotated[str, Field(description="Who did it, as they were called then; an operator with host and CI job.")]
    actor_user_id: UUID | None
    api_key_id: Annotated[UUID | None, Field(description="The API key that they came with.")]
    door: str
    action: str
    target: str
    target_id: UUID | None
    outcome: str
    detail: Annotated[dict[str, Any] | None, Field(description="The operation, without secrets.")]
    request_id: Annotated[str, Field(description="The request in the server's log; empty for a terminal's.")]


class AuditPage(Page):
    """A page of the audit log."""

    items: list[AuditRead]


class AuditHead(Body):
    """The last link of a lane: whoever keeps it elsewhere can tell later whether what led to it is there still."""

    lane: Annotated[int, Field(ge=0, lt=2**31, description="The lane.")]
    n: Annotated[int, Field(ge=1, lt=2**63, description="The link's number in it.")]
    hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="Its hash.")]


class AuditVerified(BaseModel):
    """A log that is whole."""

    model_config = ConfigDict(extra="forbid")

    entries: int
    links: Annotated[int, Field(description="Statements that wrote them, each chained to one before.")]
    heads: list[AuditHead]


class AuditSince(Body):
    """An earlier answer, as it was kept: its heads must be in the log still."""

    entries: Annotated[int | None, Field(description="As it was answered; not looked at.")] = None
    links: Annotated[int | None, Field(description="As it was answered; not looked at.")] = None
    heads: Annotated[
        list[AuditHead], Field(max_length=10_000, default_factory=list, description="The heads of that answer.")
    ]

    @model_validator(mode="after")
    def _proves_something(self) -> Self:
        if self.model_fields_set and not self.heads:
            raise ValueError("it has no heads, which are what is compared: keep all of an answer")
        return self
