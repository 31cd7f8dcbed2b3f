"""Files of users, CSV and JSONL, a piece at a time: what is in memory does not grow with the file."""

import csv
import difflib
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import orjson

from api.core.errors import BadRequest
from api.core.foreign_hashes import canonical, from_firebase, from_keycloak
from api.core.text import one_line, storable
from api.users.schemas import MAX_EMAIL, SLUG, canonical_email

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
# A record that is longer is none, in bytes: a quote that nobody closed, or another kind of file.
MOST: Final = 16 * 1024
MOST_ROLES: Final = 100
# What csv says of a record whose quotes are open at the end.
UNFINISHED: Final = "unexpected end of data"
YES: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
ROLE: Final = re.compile(SLUG)
SEPARATOR: Final = re.compile(r"[;\t|]")
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
        # Until something says which form it has, nothing is read.
        end = len(found) if last else found.rfind(b"\n") + 1 if self._form else 0
        whole, self._rest = found[:end], found[end:]
        if self._line == 1:
            whole = whole.removeprefix(b"\xef\xbb\xbf")
        # What is not UTF-8 becomes what no text may have: its row says so, and the others are read.
        lines = whole.decode(errors="surrogateescape").split("\n")
        lines = [*(f"{line}\n" for line in lines[:-1]), *filter(None, lines[-1:])]
        yield from self._of_csv(lines, last=last) if self._form == "csv" else self._of_jsonl(lines)
        if len(self._rest) > MOST:
            raise BadRequest(f"line {self._line}: there is a record without an end", hint='is there a " too many?')
        if last and not self._columns and self._form != "jsonl":
            raise BadRequest("There is nothing in it", hint=f"CSV begins with its columns: {', '.join(FIELDS)}")

    def _of_jsonl(self, lines: list[str]) -> Iterator[Row]:
        for line, record in enumerate(lines, self._line):
            if record.strip():
                yield row(line, record.rstrip("\n"), of_json)
        self._line += len(lines)

    def _of_csv(self, lines: list[str], *, last: bool) -> Iterator[Row]:
        reader = csv.reader(lines, strict=True)
        while True:
            begins = reader.line_num
            try:
                record = next(reader, None)
            except csv.Error as error:
                if str(error) == UNFINISHED and not last:
                    # Its end is in another piece.
                    self._rest = "".join(lines[begins:]).encode(errors="surrogateescape") + self._rest
                    self._line += begins
                    return
                if not self._columns:
                    raise BadRequest(f"line {self._line + begins}: it is no CSV: {error}") from None
                yield Refused(self._line + begins, "", RowRefused("", f"it is no CSV: {error}", "csv"))
                continue
            if record is None:
                break
            if record and not self._columns:
                self._columns = columns(record, self._line + begins)
            elif record:
                yield row(self._line + begins, record, self._of_record)
        self._line += len(lines)

    def _of_record(self, record: list[str]) -> dict[str, Any]:
        if len(record) != len(self._columns):
            raise RowRefused("", f"it has {len(record)} fields, and there are {len(self._columns)} columns", "csv")
        given: dict[str, Any] = {name: text for name, text in zip(self._columns, record, strict=True) if text}
        for name in ("is_active", "is_superuser"):
            if name in given:
                given[name] = YES.get(given[name].strip().lower(), given[name])
        if "roles" in given:
            given["roles"] = given["roles"].split()
        for name in ("email", "full_name"):
            if name in given and FORMULA.match(given[name]):
                given[name] = given[name].removeprefix("'")
        return given


def columns(names: list[str], line: int) -> list[str]:
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
        if len(found) == 1 and (between := SEPARATOR.search(unknown[0])):
            hint = f"columns are separated by commas, and these by {between[0]!a}"
        raise BadRequest(f"line {line}: there is no column {unknown[0][:100]!a}", hint=hint)
    if "email" not in found or len(set(found)) < len(found):
        problem = "no column email" if "email" not in found else "a column twice"
        raise BadRequest(f"line {line}: there is {problem}", hint=f"the columns are: {', '.join(FIELDS)}")
    return found


def of_json(record: str) -> dict[str, Any]:
    """Return the members of an object.

    Raises:
        RowRefused: It is none, or has members that nobody knows.
    """
    try:
        given = orjson.loads(record)
    except orjson.JSONDecodeError as error:
        raise RowRefused("", f"it is no JSON: {error.msg}, in column {error.colno}", "json") from None
    if not isinstance(given, dict):
        whole = "; each line is one, without a list around them" if isinstance(given, list) else ""
        raise RowRefused("", f"it is no JSON object{whole}", "json")
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
        return Refused(line, email[:MAX_EMAIL] if isinstance(email, str) and email.isprintable() else "", why)


def new_user(line: int, given: dict[str, Any]) -> NewUser:
    """Return the user that a row describes, by the rules of the other doors.

    Raises:
        RowRefused: A field is missing, or not good.
    """
    roles = given.get("roles", [])
    if not isinstance(roles, list) or not all(isinstance(name, str) and ROLE.fullmatch(name) for name in roles):
        raise RowRefused("roles", "they are no list of names of roles")
    if len(roles) > MOST_ROLES:
        raise RowRefused("roles", f"they are more than {MOST_ROLES}")
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
    if isinstance(value, dict) and name == "password_hash":
        value = checked({name: of_parts(value)}, name, str)
    if not isinstance(value, str):
        raise RowRefused(name, "it is missing" if value is None else "it is no text", "missing")
    try:
        return read(value)
    except ValueError as error:
        raise RowRefused(name, str(error)) from None


def of_parts(parts: dict[str, Any]) -> str:
    """Return the hash that Keycloak or Firebase has in parts: a credential, or what `from_firebase` takes.

    Raises:
        RowRefused: They are not good.
    """
    try:
        return from_keycloak(parts) if "credentialData" in parts else from_firebase(**parts)
    except (TypeError, ValueError) as error:
        problem = "it is neither a credential of Keycloak's nor the parts of a hash of Firebase's"
        raise RowRefused("password_hash", problem if isinstance(error, TypeError) else str(error)) from None


def full_name(text: str) -> str:
    """Return a name, as everywhere."""
    if len(text) > 200:
        raise ValueError("it has more than 200 characters")
    return one_line(text)


def moment(text: str) -> datetime:
    """Return a time; one that names no zone is UTC."""
    try:
        found = datetime.fromisoformat(text)
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("it is no time as 2026-11-26T09:00:00Z") from None
    if found > datetime.now(UTC):
        raise ValueError("it is in the future")
    return found


def password_hash(text: str) -> str:
    """Return a hash that a login can be checked against."""
    return canonical(storable(text))
