"""What both doors show of migrations."""

from pydantic import BaseModel, ConfigDict


class MigrationRead(BaseModel):
    """One migration."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    id: str
    text: str


class MigrationStatus(BaseModel):
    """Where the database stands, and what the code has beyond that; `current` is null for an empty database."""

    model_config = ConfigDict(extra="forbid")

    current: str | None
    head: str | None
    pending: list[MigrationRead]


class MigrationRun(MigrationStatus):
    """The outcome of a run: what it applied, which is nothing when the database was at head."""

    applied: list[MigrationRead]
