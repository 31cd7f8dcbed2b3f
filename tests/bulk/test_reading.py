"""Files of users: what a row says, where it stands, and that a piece's end is no end of anything."""

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.bulk import reading
from api.bulk.reading import FIELDS, NewUser, Reader, Refused, Row
from api.bulk.schemas import ExportOptions
from api.bulk.writing import written
from api.core.errors import BadRequest
from api.users.models import User


def rows(*pieces: bytes, form: Any = None) -> list[Row]:
    reader = Reader(form)
    found = [row for piece in pieces for row in reader.rows(piece)]
    return [*found, *reader.rows(b"", last=True)]


def said(*pieces: bytes) -> list[tuple[int, str, str]]:
    """Return the line, and the address, or the field that was refused with the reason."""
    return [
        (row.line, row.email, "") if isinstance(row, NewUser) else (row.line, row.why.field, row.why.message)
        for row in rows(*pieces)
    ]


CSV = (
    b"\xef\xbb\xbfemail,full_name,is_active,roles\r\n"
    b'ADA@Example.com,"King, ""Ada""",,support staff\r\n'
    b'bob@example.com,"two\nlines",,\r\n'
    b"\r\n"
    b"eve@example.com,Eve,maybe,\r\n"
    b"no address,,,\r\n"
    b"short,\r\n"
    b"\xff@example.com,,,\r\n"
    b"mia@example.com,'=1+1,No,\r\n"
    b"last@example.com,,,"
)
JSONL = (
    b'{"email": "ada@example.com", "roles": ["support"], "created_at": "2020-01-02T03:04:05+01:00"}\n'
    b'{"email": "bob@example.com", "full_name": null}\n'
    b"\n"
    b'{"email": "eve@example.com", "password": "x"}\n'
    b'["ada@example.com"]\n'
    b'{"email": "mia@example.com"\n'
    b'{"full_name": "Nobody"}\n'
    b'{"email": 5}\n'
    b'{"email": "joe@example.com", "is_active": "yes"}\n'
    b'{"email": "kim@example.com", "roles": "support"}\n'
    b'{"email": "lea@example.com", "created_at": "yesterday"}\n'
    b'{"email": "max@example.com", "full_name": "a\\u0000b"}'
)


def test_csv() -> None:
    assert said(CSV) == [
        (2, "ada@example.com", ""),
        (3, "full_name", "it contains the character U+000A"),
        (6, "is_active", "it is neither true nor false"),
        (7, "email", "an email address must have an @-sign"),
        (8, "", "it has 2 fields, and there are 4 columns"),
        (9, "email", "it is no valid UTF-8, or has a lone surrogate"),
        (10, "mia@example.com", ""),
        (11, "last@example.com", ""),
    ]
    ada, mia = (row for row in rows(CSV) if row.line in {2, 10})
    assert isinstance(ada, NewUser)
    assert isinstance(mia, NewUser)
    assert (ada.full_name, ada.is_active, ada.roles) == ('King, "Ada"', True, ("staff", "support"))
    assert (mia.full_name, mia.is_active) == ("=1+1", False)


def test_jsonl() -> None:
    assert said(JSONL) == [
        (1, "ada@example.com", ""),
        (2, "bob@example.com", ""),
        (4, "password", "there is no such field"),
        (5, "", "it is no JSON object; each line is one, without a list around them"),
        (6, "", "it is no JSON: unexpected end of data, in column 28"),
        (7, "email", "it is missing"),
        (8, "email", "it is no text"),
        (9, "is_active", "it is neither true nor false"),
        (10, "roles", "they are no list of names of roles"),
        (11, "created_at", "it is no time as 2026-11-26T09:00:00Z"),
        (12, "full_name", "it contains the character U+0000"),
    ]
    ada = rows(JSONL)[0]
    assert isinstance(ada, NewUser)
    assert str(ada.created_at) == "2020-01-02 02:04:05+00:00"


@given(st.sampled_from([CSV, JSONL]), st.lists(st.integers(0, len(JSONL))))
def test_pieces_may_end_anywhere(file: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(file)]
    pieces = [file[start:end] for start, end in pairwise(places)]
    assert said(*pieces) == said(file)


def test_nothing_is_read_before_something_says_which_form_it_has() -> None:
    # Half of a byte order mark, alone on its line: `make fuzz` found that it was refused as JSON, and then as CSV.
    for pieces in ((b"\n\xbb\n", b"\nemail\n"), (b"\n\xbb\n\nemail\n",)):
        with pytest.raises(BadRequest):
            rows(*pieces)
    assert said(b" \n", b"\n", b'{"email": "a@b.co"}') == [(3, "a@b.co", "")]


@given(st.binary(max_size=200), st.sampled_from(["csv", "jsonl", None]))
def test_nothing_that_is_no_file_is_a_failure(junk: bytes, form: Any) -> None:
    for file in (junk, b"email,full_name\n" + junk):
        try:
            found = rows(file[:50], file[50:], form=form)
        except BadRequest:
            continue
        assert all(row.line >= 1 for row in found)


@pytest.mark.parametrize(
    ("file", "problem", "hint"),
    [
        (b"emial,full_name\n", "line 1: there is no column 'emial'", "did you mean email?"),
        (b"email,password\n", "line 1: there is no column 'password'", "their hashes"),
        (b"email;full_name\n", "line 1: there is no column 'email;full_name'", "by commas, and these by ';'"),
        (b"full_name\n", "line 1: there is no column email", "the columns are"),
        (b"email,email\n", "line 1: there is a column twice", "the columns are"),
        (b"PK\x03\x04\x00", "line 1: there is no column", "the columns are"),
        (b"\n\nemail,x\n", "line 3: there is no column 'x'", "the columns are"),
        (b'"email"x\n', "line 1: it is no CSV", ""),
        (b"", "There is nothing in it", "begins with its columns"),
        (b"\n \n", "There is nothing in it", "begins with its columns"),
    ],
)
def test_what_is_no_such_file(file: bytes, problem: str, hint: str) -> None:
    with pytest.raises(BadRequest) as refused:
        rows(file)
    assert problem in refused.value.detail
    assert hint in (refused.value.hint or "")


def test_a_quote_that_nobody_closes_holds_up_nobody() -> None:
    """Not for as long as it would take to look for its end again and again; one within a field opens nothing."""
    assert said(b'email,full_name\na@example.com,5" x\n', b'b@example.com,"two\n', b'c@example.com,C\nlines"\n') == [
        (2, "a@example.com", ""),
        (3, "full_name", "it contains the character U+000A"),
    ]
    reader = Reader("csv")
    began = time.perf_counter()
    assert list(reader.rows(b'email\n"')) == []
    for _ in range(100):
        assert list(reader.rows(b'""\n' * 50)) == []
    with pytest.raises(BadRequest, match="line 2: there is a record without an end"):
        list(reader.rows(b'""\n' * 3000))
    assert time.perf_counter() - began < 5


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES | st.dictionaries(st.text(max_size=3), JSON_VALUES)))
def test_a_value_of_another_kind_is_refused_in_its_row(given_values: dict[str, Any]) -> None:
    (found,) = rows(json.dumps(given_values).encode() + b"\n", form="jsonl")
    assert isinstance(found, Refused) or found.email


NAMES = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=20).map(reading.full_name)


@given(st.lists(st.tuples(NAMES | st.sampled_from(["=1", "'=1", "''@x", "-", '"', ",", "'x"]), st.booleans())))
def test_what_is_written_is_read_again(people: list[tuple[str, bool]]) -> None:
    moment = reading.moment("2025-11-26T09:00:00.123456Z")
    users = [
        User(
            email=f"{'+=-'[number % 3]}{number}@example.com", full_name=name, is_active=flag, is_superuser=not flag,
            roles=["a", "b"],
            email_verified_at=moment if flag else None, created_at=moment, password_hash=None,
        )
        for number, (name, flag) in enumerate(people)
    ]  # fmt: skip
    for form in ("csv", "jsonl"):
        how = ExportOptions(format=form, with_hashes=True)
        found = rows(written([], how, is_first=True) + written(users, how, is_first=False), form=form)
        assert [row[1:] for row in found] == [
            tuple(tuple(value) if isinstance(value := getattr(user, name), list) else value for name in FIELDS)
            for user in users
        ]
        # What a spreadsheet would take for a formula.
        assert form != "csv" or b"\n=" not in written(users, how, is_first=False)
