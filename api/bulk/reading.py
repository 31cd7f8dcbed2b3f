"""Files of users, CSV and JSONL, a piece at a time: what is in memory does not grow with the file."""

import csv
import difflib
import io
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import orjson

from api.core.errors import BadRequest
from api.core.foreign_hashes import canonical
from api.core.text import one_line, storable
from api.users.schemas import SLUG, canonical_email

FileFormat = Literal["csv", "jsonl"]
# As export_users writes them; all but the address may be left out.
FIELDS: Final = (
    "email",
    "full_name",
    "is_active",
    "is_superuser",
    "roles",
    "email_verified_at",
    "created_at",
    "password_hash",
)
# A record that is longer is none: a quote that nobody closed, or another kind of file.
MOST: Final = 1024 * 1024
YES: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
ROLE: Final = re.compile(SLUG)
# A spreadsheet would take what begins so for a formula; an apostrophe before it is export_users's.
FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")


class RowRefused(Exception):
    """A row that cannot become a user.

    Attributes:
        field: The column that it is about; empty: the whole row.
        message: What is wrong with it.
        code: The machine's word for it.
    """

    def __init__(self, field: str, message: str, code: str = "invalid") -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.code = code


class NewUser(NamedTuple):
    """A row that may become a user."""

    line: int
    email: str
    full_name: str
    is_active: bool
    is_superuser: bool
    roles: tuple[str, ...]
    email_verified_at: datetime | None
    created_at: datetime | None
    password_hash: str | None


class Refused(NamedTuple):
    """A row that was refused, and why."""

    line: int
    email: str
    why: RowRefused


Row = NewUser | Refused


class Reader:
    """Makes rows of a file's pieces; whole records only are looked at.

    Args:
        form: The file's format; without one, what its first character says.
    """

    def __init__(self, form: FileFormat | None) -> None:
        self._form = form
        self._rest = b""
        self._line = 1
        self._columns: list[str] = []

    def rows(self, piece: bytes, *, last: bool = False) -> Iterator[Row]:
        """Yield the rows that are complete with this piece; `last` says that nothing follows.

        Raises:
            BadRequest: It is no such file: the names of its columns are wrong, or a record does not end.
        """
        found = self._rest + piece
        if self._form is None and (begun := found.lstrip(b"\xef\xbb\xbf \t\r\n")):
            self._form = "jsonl" if begun.startswith((b"{", b"[")) else "csv"
        if last:
            whole, self._rest = found, b""
        else:
            end = self._end(found)
            whole, self._rest = found[:end], found[end:]
            if len(self._rest) > MOST:
                line = self._line + whole.count(b"\n")
                raise BadRequest(
                    f"The record that begins in line {line} does not end",
                    hint='is there a " that nobody closed?',
                )
        if not whole:
            return
        if self._line == 1:
            whole = whole.removeprefix(b"\xef\xbb\xbf")
        # What is not UTF-8 becomes what no text may have: its row says so, and the others are read.
        text = whole.decode(errors="surrogateescape")
        yield from self._of_csv(text) if self._form == "csv" else self._of_jsonl(text)

    def _end(self, found: bytes) -> int:
        """Return where the last complete record ends: behind a line's end that is in no quotes."""
        end = found.rfind(b"\n") + 1
        while end and self._form == "csv" and found.count(b'"', 0, end) % 2:
            end = found.rfind(b"\n", 0, end - 1) + 1
        return end

    def _of_jsonl(self, text: str) -> Iterator[Row]:
        for line, record in enumerate(text.split("\n"), self._line):
            if record.strip():
                yield row(line, record, of_json)
        self._line += text.count("\n")

    def _of_csv(self, text: str) -> Iterator[Row]:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        first = line = self._line
        while True:
            try:
                record = next(reader, None)
            except csv.Error as error:
                yield Refused(line, "", RowRefused("", f"it is no CSV: {error}", "csv"))
                line = first + reader.line_num
                continue
            if record is None:
                break
            if not self._columns:
                self._columns = columns(record)
            elif record:
                yield row(line, record, self._of_record)
            line = first + reader.line_num
        self._line = line

    def _of_record(self, record: list[str]) -> dict[str, Any]:
        if len(record) != len(self._columns):
            raise RowRefused("", f"it has {len(record)} fields, and there are {len(self._columns)} columns", "csv")
        given: dict[str, Any] = {name: text for name, text in zip(self._columns, record, strict=True) if text}
        for name in ("is_active", "is_superuser"):
            if name in given:
                value = YES.get(given[name].strip().lower())
                if value is None:
                    raise RowRefused(name, "it is neither true nor false", "bool_parsing")
                given[name] = value
        if "roles" in given:
            given["roles"] = given["roles"].split()
        if "full_name" in given and FORMULA.match(given["full_name"]):
            given["full_name"] = given["full_name"].removeprefix("'")
        return given


def columns(names: list[str]) -> list[str]:
    """Return the columns that a file says it has.

    Raises:
        BadRequest: One of them is unknown, or there twice, or the address is not among them.
    """
    found = [name.strip().lower() for name in names]
    unknown = [name for name in found if name not in FIELDS]
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], FIELDS, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"the columns are: {', '.join(FIELDS)}"
        if unknown[0] == "password":
            hint = "passwords are imported as their hashes: password_hash"
        raise BadRequest(f"line 1: there is no column {unknown[0][:100]!a}", hint=hint)
    if "email" not in found or len(set(found)) < len(found):
        problem = "no column email" if "email" not in found else "a column twice"
        raise BadRequest(f"line 1: there is {problem}", hint=f"the columns are: {', '.join(FIELDS)}")
    return found


def of_json(record: str) -> dict[str, Any]:
    """Return the members of an object.

    Raises:
        RowRefused: It is none, or has members that nobody knows.
    """
    try:
        given = orjson.loads(record)
    except ValueError as error:
        raise RowRefused("", f"it is no JSON: {str(error).partition(':')[0]}", "json") from None
    if not isinstance(given, dict):
        raise RowRefused("", "it is no JSON object", "json")
    unknown = [name for name in given if name not in FIELDS]
    if unknown:
        raise RowRefused(ascii(unknown[0])[1:-1][:100], "there is no such field", "extra_forbidden")
    return {name: value for name, value in given.items() if value is not None}


def row(line: int, record: Any, read: Callable[[Any], dict[str, Any]]) -> Row:
    """Return what a record says."""
    given: dict[str, Any] = {}
    try:
        given = read(record)
        return new_user(line, given)
    except RowRefused as why:
        email = given.get("email")
        # So that a person finds it; what cannot be printed is none.
        return Refused(line, email if isinstance(email, str) and email.isprintable() else "", why)


def new_user(line: int, given: dict[str, Any]) -> NewUser:
    """Return the user that a row describes, by the rules of the other doors.

    Raises:
        RowRefused: A field is missing, or not good.
    """
    roles = given.get("roles", ())
    if roles and not (isinstance(roles, list) and all(isinstance(name, str) and ROLE.match(name) for name in roles)):
        raise RowRefused("roles", "they are no list of names of roles")
    for name in ("is_active", "is_superuser"):
        if not isinstance(given.get(name, False), bool):
            raise RowRefused(name, "it is neither true nor false", "bool_type")
    return NewUser(
        line,
        checked(given, "email", canonical_email) or "",
        checked(given, "full_name", full_name) or "",
        given.get("is_active", True),
        given.get("is_superuser", False),
        tuple(sorted(set(roles))),
        checked(given, "email_verified_at", moment),
        checked(given, "created_at", moment),
        checked(given, "password_hash", password_hash),
    )


def checked(given: dict[str, Any], name: str, read: Callable[[str], Any]) -> Any:
    """Return a field's value; None if it has none, which an address must.

    Raises:
        RowRefused: It is not good.
    """
    value = given.get(name)
    if value is None and name != "email":
        return None
    if not isinstance(value, str):
        raise RowRefused(name, "it is missing" if value is None else "it is no text", "missing")
    try:
        return read(value)
    except ValueError as error:
        raise RowRefused(name, str(error)) from None


def full_name(text: str) -> str:
    """Return a name, as everywhere."""
    if len(text) > 200:
        raise ValueError("it has more than 200 characters")
    return one_line(text)


def moment(text: str) -> datetime:
    """Return a time; one that names no zone is UTC."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("it is no time as 2026-11-26T09:00:00Z") from None


def password_hash(text: str) -> str:
    """Return a hash that a login can be checked against."""
    return canonical(storable(text))
