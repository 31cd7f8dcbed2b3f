"""Files of users, as `reading` takes them."""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson

from api.bulk.reading import FIELDS, FORMULA
from api.bulk.schemas import ExportOptions
from api.users.models import User


def written(people: Iterable[User], how: ExportOptions, *, is_first: bool) -> bytes:
    """Return a piece of a file: a line for each person, and at its beginning what every such file begins with."""
    names = FIELDS if how.with_hashes else FIELDS[:-1]
    records = ({name: getattr(person, name) for name in names} for person in people)
    if how.format == "jsonl":
        return b"".join(orjson.dumps(one, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE) for one in records)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if is_first:
        writer.writerow(names)
    writer.writerows([cell(value) for value in one.values()] for one in records)
    return text.getvalue().encode()


def cell(value: Any) -> str:
    """Return a value as text; a spreadsheet takes none for a formula."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    text = "" if value is None else str(value)
    return f"'{text}" if FORMULA.match(text) else text
