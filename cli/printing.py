"""Data on stdout, in the form that was asked for; messages never come here."""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cli.errors import json_text
from cli.output import Format, Item, Listing, Report, Result, Script, Style, picked, plain, rows_of


def show(result: Result, style: Style) -> None:
    """Print a result to stdout."""
    if isinstance(result, Report):
        is_read = style.form is Format.TABLE or (style.form is None and sys.stdout.isatty())
        if result.lines and is_read and not style.fields:
            from cli.tables import show_lines

            show_lines(result.lines, style)
            return
        if not style.fields:
            style = replace(style, form=result.form if style.form in {None, Format.TABLE} else style.form)
        result = Item(result.body)
    if isinstance(result, Script):
        if style.form in {None, Format.TABLE}:
            sys.stdout.write(result.text)
            return
        result = Item({result.name: result.text})
    rows = rows_of(result)
    if style.form is None and not sys.stdout.isatty():
        text = tab_separated(rows, style.fields or default_fields(result))
    elif style.form in {None, Format.TABLE}:
        from cli.tables import show_table

        show_table(result, rows, style)
        return
    elif style.form is Format.JSON and isinstance(result, Listing):
        listing = {"items": [picked(row, style.fields) for row in rows], "next_cursor": result.next_cursor}
        text = json_text(listing, indent=2) + "\n"
    else:
        text = FORMATS[style.form or Format.TABLE](rows, style.fields, single=isinstance(result, Item))
    sys.stdout.write(text)


def default_fields(result: Item | Listing) -> Sequence[str]:
    """Return the fields of a row where none were asked for."""
    return tuple(result.body | result.extra) if isinstance(result, Item) else result.columns


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
    what = shown[0] if single else shown
    text: str = yaml.safe_dump(what, sort_keys=False, allow_unicode=True)
    # Escaped, where a terminal would obey it.
    return text if text.replace("\n", "").isprintable() else yaml.safe_dump(what, sort_keys=False)


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
    """Return one id a line; nothing for what has none, as a plan."""
    del fields, single
    ids = (row.get("id", row.get("session_id", row.get("variable"))) for row in rows)
    return "".join(f"{found}\n" for found in ids if found is not None)


FORMATS = {
    Format.JSON: as_json,
    Format.JSONL: as_jsonl,
    Format.YAML: as_yaml,
    Format.CSV: as_csv,
    Format.IDS: as_ids,
}
