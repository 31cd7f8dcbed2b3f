"""Data on stdout, in the form that was asked for; messages never come here."""

import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from cli.errors import json_text, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Characters between two columns; and those of a text that it is not broken within.
GAP: Final = 2
ROOMY: Final = 36
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
class Style:
    """How to print: None for `form` leaves it to what stdout is."""

    form: Format | None = None
    fields: tuple[str, ...] = ()
    paged: bool = True
    say: Callable[[str], None] = lambda _: None


def show(result: Item | Listing | Script, style: Style) -> None:
    """Print a result to stdout."""
    if isinstance(result, Script):
        if style.form in {None, Format.TABLE}:
            sys.stdout.write(result.text)
            return
        result = Item({result.name: result.text})
    rows = rows_of(result)
    if style.form is None and not sys.stdout.isatty():
        text = tab_separated(rows, style.fields or default_fields(result))
    elif style.form in {None, Format.TABLE}:
        show_table(result, rows, style)
        return
    elif style.form is Format.JSON and isinstance(result, Listing):
        listing = {"items": [picked(row, style.fields) for row in rows], "next_cursor": result.next_cursor}
        text = json_text(listing, indent=2) + "\n"
    else:
        text = FORMATS[style.form or Format.TABLE](rows, style.fields, single=isinstance(result, Item))
    sys.stdout.write(text)


def rows_of(result: Item | Listing) -> list[dict[str, Any]]:
    """Return a result as rows."""
    return [result.body | result.extra] if isinstance(result, Item) else result.items


def check_fields(result: Item | Listing | Script, fields: tuple[str, ...]) -> None:
    """Let fields pass that the rows have, or could have had.

    Raises:
        BadRequest: One of them is unknown.
    """
    rows = [] if isinstance(result, Script) else rows_of(result)
    unknown = [name for name in fields if rows and name not in rows[0] and name not in OPTIONAL]
    if unknown:
        from api.core.errors import BadRequest

        raise BadRequest(f"There is no field {', '.join(unknown)}", hint=f"the fields are: {', '.join(rows[0])}")


def default_fields(result: Item | Listing) -> Sequence[str]:
    """Return the fields of a row where none were asked for."""
    return tuple(result.body | result.extra) if isinstance(result, Item) else result.columns


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


def tab_separated(rows: list[dict[str, Any]], fields: Sequence[str]) -> str:
    """Return a line a row, whole values, no header: for `cut`, `read` and `xargs`."""
    return "".join("\t".join(plain(row.get(name)) for name in fields) + "\n" for row in rows)


def as_json(rows: list[dict[str, Any]], fields: Sequence[str], *, single: bool) -> str:
    """Return one object, as its HTTP body has it."""
    assert single  # noqa: S101 - lists have their envelope, above
    return json_text(picked(rows[0], fields), indent=2) + "\n"


def as_jsonl(rows: list[dict[str, Any]], fields: Sequence[str], *, single: bool) -> str:
    """Return one object a line."""
    del single
    return "".join(json_text(picked(row, fields)) + "\n" for row in rows)


def as_yaml(rows: list[dict[str, Any]], fields: Sequence[str], *, single: bool) -> str:
    """Return a YAML document."""
    import yaml

    shown = [picked(row, fields) for row in rows]
    text: str = yaml.safe_dump(shown[0] if single else shown, sort_keys=False, allow_unicode=True)
    return text


def as_csv(rows: list[dict[str, Any]], fields: Sequence[str], *, single: bool) -> str:
    """Return CSV (RFC 4180) with a header."""
    del single
    names = fields or (tuple(rows[0]) if rows else ())
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(names)
    writer.writerows([plain(row.get(name)) for name in names] for row in rows)
    return buffer.getvalue()


def as_ids(rows: list[dict[str, Any]], fields: Sequence[str], *, single: bool) -> str:
    """Return one id a line."""
    del fields, single
    return "".join(f"{row.get('id', row.get('session_id', row.get('variable', '')))}\n" for row in rows)


FORMATS = {
    Format.JSON: as_json,
    Format.JSONL: as_jsonl,
    Format.YAML: as_yaml,
    Format.CSV: as_csv,
    Format.IDS: as_ids,
}


def show_table(result: Item | Listing, rows: list[dict[str, Any]], style: Style) -> None:
    """Print for a person: a table, or one object as a column of its fields."""
    from rich.console import Console

    colorless = os.environ.get("TERM") == "dumb"
    # Rich would take a dumb terminal for one of 80 columns, unless it knows both.
    size = shutil.get_terminal_size() if sys.stdout.isatty() else os.terminal_size((80, 24))
    color = None if colorless else "auto"
    console = Console(highlight=False, color_system=color, width=size.columns, height=size.lines)  # type: ignore[arg-type]
    with console.capture() as drawn:
        missing = draw(console, result, rows, style)
    show_text(drawn.get(), size.lines, style)
    if missing:
        style.say(missing)


def show_text(text: str, height: int, style: Style) -> None:
    """Show a person a text, in the pager where it is longer than a screen of so many lines."""
    if style.paged and text.count("\n") >= height and sys.stdin.isatty() and sys.stdout.isatty():
        from cli.pager import page_through

        if page_through(text):
            return
    sys.stdout.write(text)


def draw(console: "Console", result: Item | Listing, rows: list[dict[str, Any]], style: Style) -> str | None:
    """Draw a table, or one object; return what is to be said about what is missing there."""
    from rich.padding import Padding
    from rich.text import Text

    if isinstance(result, Item):
        shown = picked(rows[0], style.fields)
        width = max(map(len, shown))
        for name, value in shown.items():
            inner = value if is_nested(value) else None
            # One line each, never broken: a token or an id is there to be copied.
            line = Text.assemble((name.ljust(width), "cyan"), "  ", "" if inner else readable(value))
            console.print(line, soft_wrap=True)
            if inner:
                # What is in that in turn has no room there.
                inside = [name for name in inner[0] if not any(is_nested(row.get(name)) for row in inner)]
                console.print(Padding(table(inner, fitting(inner, inside, console.width - 2)), (0, 0, 0, 2)))
        return None
    if not rows:
        return "There is nothing to show."
    names = style.fields or fitting(rows, result.table, console.width)
    console.print(table(rows, names))
    left_out = [] if style.fields else [name for name in result.table if name not in names]
    if not left_out:
        return None
    return f"No room for {', '.join(left_out)}: widen the terminal, or name what you want with --fields"


def is_nested(value: Any) -> bool:
    """Tell whether a value is a list of objects."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def fitting(rows: list[dict[str, Any]], names: Sequence[str], width: int) -> list[str]:
    """Return those columns, the first ones first, that have room beside each other."""
    found: list[str] = []
    taken = 0
    for name in names:
        # A long text breaks; an id or a time broken in pieces is none.
        cells = [min(len(readable(row.get(name))), ROOMY) for row in rows]
        needed = max([len(heading(name)), *cells]) + GAP
        if not found or taken + needed - GAP <= width:
            found.append(name)
            taken += needed
    return found


def heading(name: str) -> str:
    """Return what stands over a column."""
    return name.removeprefix("is_").replace("_", " ").upper()


def table(rows: list[dict[str, Any]], names: Sequence[str]) -> "Table":
    """Return rows as a table, whose cells break where it is too wide."""
    from rich.table import Table
    from rich.text import Text

    found = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        # Half an id or address is none: let other columns give way.
        whole = name == "id" or name.endswith("email")
        found.add_column(heading(name), overflow="fold", no_wrap=whole)
    for row in rows:
        found.add_row(*(Text(readable(row.get(name))) for name in names))
    return found


def readable(value: Any) -> str:
    """Return a value as a person reads it: yes and no, times to the second, no JSON."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, dict):
        return " ".join(f"{name}={plain(inner)}" for name, inner in value.items())
    text = plain(value)
    if len(text) == 27 and text.endswith("Z") and text[10] == "T" and text[19] == ".":
        return f"{text[:10]} {text[11:19]}Z"
    return text
