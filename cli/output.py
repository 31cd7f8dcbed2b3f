"""What a command has to say to whoever asked, before it has a form."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from cli.errors import printable

# What some runs of a command say and others do not.
OPTIONAL: Final = {"changed", "dry_run", "generated_password", "scope"}


class Format(StrEnum):
    """The forms of output."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"
    CSV = "csv"
    IDS = "ids"


@dataclass(frozen=True, slots=True)
class Item:
    """One object, as its HTTP body has it; `extra` is what only the terminal says (`changed`, a generated secret)."""

    body: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """A list, as its HTTP body has it; `columns` are a script's, `table` a person's."""

    items: list[dict[str, Any]]
    next_cursor: str | None
    columns: Sequence[str]
    table: Sequence[str]
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Script:
    """A text for another program, printed as it is; in an object, under its name, where one was asked for."""

    name: str
    text: str
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """One object that a person reads as lines, each in a style of its own; others get it in a form of its own."""

    body: dict[str, Any]
    lines: Sequence[tuple[str, str]]
    form: Format
    exit_code: int = 0


Result = Item | Listing | Script | Report


@dataclass(frozen=True, slots=True)
class Style:
    """How to print: None for `form` leaves it to what stdout is."""

    form: Format | None = None
    fields: tuple[str, ...] = ()
    paged: bool = True
    say: Callable[[str], None] = lambda _: None


def rows_of(result: Item | Listing) -> list[dict[str, Any]]:
    """Return a result as rows."""
    return [result.body | result.extra] if isinstance(result, Item) else result.items


def check_fields(result: Result, fields: tuple[str, ...]) -> None:
    """Let fields pass that the rows have, or could have had.

    Raises:
        BadRequest: One of them is unknown.
    """
    rows = [result.body] if isinstance(result, Report) else [] if isinstance(result, Script) else rows_of(result)
    unknown = [name for name in fields if rows and name not in rows[0] and name not in OPTIONAL]
    if unknown:
        from api.core.errors import BadRequest

        raise BadRequest(f"There is no field {', '.join(unknown)}", hint=f"the fields are: {', '.join(rows[0])}")


def picked(row: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Return the row with only these fields, in this order; all of them where none are named."""
    return {name: row.get(name) for name in fields} if fields else row


def plain(value: Any) -> str:
    """Return a value as text for a cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(plain(item) for item in value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return printable(str(value))
