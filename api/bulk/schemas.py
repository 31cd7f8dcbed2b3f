"""What goes in and out about files of users."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.bulk.reading import FileFormat

# Refused rows that a report names.
MOST_ERRORS = 100


class ImportOptions(BaseModel):
    """How a file is imported."""

    model_config = ConfigDict(extra="forbid")

    format: Annotated[
        FileFormat | None,
        Field(description="`csv` (RFC 4180, with a header) or `jsonl`; without, as the body says, or begins."),
    ] = None
    if_exists: Annotated[
        Literal["skip", "fail"],
        Field(description="What becomes of a row whose address is taken; never anything of the user."),
    ] = "skip"
    atomic: Annotated[bool, Field(description="Import nothing if one row is refused.")] = False
    dry_run: Annotated[bool, Field(description="Do everything, then undo it.")] = False


class ExportOptions(BaseModel):
    """How users are exported."""

    model_config = ConfigDict(extra="forbid")

    format: Annotated[FileFormat, Field(description="`csv` (RFC 4180, with a header) or `jsonl`.")] = "csv"
    with_hashes: Annotated[
        bool, Field(description="The hashes of their passwords too; only whoever may do everything gets them.")
    ] = False


class RowError(BaseModel):
    """Why a row was refused."""

    line: Annotated[int, Field(description="Where the row begins in the file, from 1.")]
    email: Annotated[str, Field(description="Whom it is about, as far as that could be read.")]
    field: Annotated[str, Field(description="The column; empty: the whole row.")]
    code: str
    message: str


class ImportReport(BaseModel):
    """What became of a file's rows."""

    rows: int
    created: int
    unchanged: Annotated[int, Field(description="Those whose address was taken already.")]
    failed: int
    errors: Annotated[list[RowError], Field(description=f"Of the rows that were refused, the first {MOST_ERRORS}.")]
    changed: bool
    dry_run: bool


class RowResult(BaseModel):
    """What became of one row."""

    line: int
    email: str
    status: Annotated[
        Literal["created", "accepted", "unchanged", "failed"],
        Field(description="`accepted`: whether it was created is in the report, because all are or none."),
    ]
    id: UUID | None = None
    field: str | None = None
    code: str | None = None
    message: str | None = None
