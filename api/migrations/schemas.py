"""What goes in and out about migrations."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.core.pagination import Page
from api.core.text import Line
from api.migrations.revisions import Phase
from api.users.schemas import Body

Revision = Annotated[Line, Field(min_length=1, max_length=64, examples=["5d0c3a9be147"])]
Wait = Annotated[float, Field(ge=0.01, le=60, description="Seconds that a statement waits for others' locks, at most.")]


class MigrationRead(BaseModel):
    """One migration."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    id: str
    text: str
    phase: Annotated[Phase, Field(description="Whether it only adds, or takes away what an older version may use.")]


class MigrationState(BaseModel):
    """Where the database stands, and what the code has beyond that; `current` is null for an empty database."""

    model_config = ConfigDict(extra="forbid")

    current: str | None
    head: str | None
    pending: list[MigrationRead]


class RunRead(BaseModel):
    """One run that changed the schema, or tried to."""

    model_config = ConfigDict(extra="forbid")

    at: datetime
    action: Annotated[str, Field(description="`upgrade`, `rollback` or `stamp`.")]
    revision_from: str | None
    revision_to: str | None
    outcome: Annotated[str, Field(description="`succeeded` or `failed`.")]
    actor: str
    seconds: float | None
    door: str
    host: str | None
    error: Annotated[str | None, Field(description="What failed.")]
    forced: Annotated[list[str], Field(description="Servers of an older version that ran, with `force`.")]


class MigrationStatus(MigrationState):
    """Where the database stands, whether it is being migrated now, and who did what the last ten times."""

    is_running: bool
    runs: list[RunRead]


class MigrationRun(MigrationState):
    """The outcome of a run: what it applied, which is nothing when the database was there already."""

    applied: list[MigrationRead]


class MigrationUpgrade(Body):
    """How to bring the database forward."""

    to: Annotated[Revision | None, Field(description="The revision to stop at; null: the newest.")] = None
    lock_timeout: Wait = 0.5
    statement_timeout: Annotated[
        float | None, Field(ge=0.01, le=86400, description="Seconds that a statement may take; null: any number.")
    ] = None
    force: Annotated[
        bool, Field(description="Take away what servers of an older version, which still run, may use.")
    ] = False


class FindingRead(BaseModel):
    """What a migration would do to others, and how to do without."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    rule: str
    message: str
    hint: str


class MigrationPlanned(MigrationRead):
    """A migration that would be applied, and what it would do to others."""

    findings: list[FindingRead]


class MigrationPlan(BaseModel):
    """What a run would do; nothing is done."""

    model_config = ConfigDict(extra="forbid")

    current: str | None
    to: str | None
    steps: list[MigrationPlanned]


class RollbackPlan(BaseModel):
    """What going back would take away; nothing is done."""

    model_config = ConfigDict(extra="forbid")

    current: str | None
    to: str | None
    steps: list[MigrationRead]
    lost: Annotated[list[str], Field(description="What would be lost with it, and how many rows have it.")]
    served_by: Annotated[list[str], Field(description="Servers that run now, which may miss it.")]


class MigrationRolledBack(MigrationState):
    """The outcome of going back."""

    undone: list[MigrationRead]
    lost: list[str]


class MigrationStamped(MigrationState):
    """The outcome of a stamp."""

    before: list[str]


class ModelDifferences(BaseModel):
    """Where the database is not what the models say."""

    model_config = ConfigDict(extra="forbid")

    differences: list[str]


class MigrationMade(MigrationRead):
    """A migration that was written."""

    path: str
    findings: list[FindingRead]
    lost_on_rollback: Annotated[list[str], Field(description="What its downgrade makes again, but empty.")]


def quotable(text: str) -> str:
    """Return a text that can stand between quotation marks.

    Raises:
        ValueError: It has some itself.
    """
    if set(text) & set('"\\'):
        raise ValueError("it stands between quotation marks in a file: it can have none, and no backslash")
    return text


class MigrationText(BaseModel):
    """What a new migration does: it becomes its file's name, and the first line in it."""

    text: Annotated[Line, Field(min_length=1, max_length=100), AfterValidator(quotable)]


class MigrationApplied(MigrationRead):
    """A migration, and who applied it when; null where that was not noted."""

    is_applied: bool
    applied_at: datetime | None
    actor: str | None
    door: str | None
    host: str | None


class MigrationHistory(Page):
    """Every migration, the newest first: on one page."""

    items: list[MigrationApplied]


def run_read(entry: Any) -> RunRead:
    """Return a run as the audit log has it."""
    detail = entry.detail
    return RunRead(
        at=entry.at,
        action=entry.action.removeprefix("migration."),
        revision_from=detail.get("from"),
        revision_to=detail.get("to"),
        outcome=detail.get("outcome", "succeeded"),
        error=detail.get("error"),
        forced=detail.get("forced", []),
        seconds=detail.get("seconds"),
        actor=entry.actor,
        door=entry.door,
        host=detail.get("host"),
    )
