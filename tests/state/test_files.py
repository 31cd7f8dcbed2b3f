"""Files of states: YAML and JSON, folders, passwords that stand elsewhere, and the place of whatever is wrong."""

import json
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2
import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.core.errors import ApictlError, BadRequest, InvalidInput
from cli.state_files import load
from tests.conftest import ROOT, log_in
from tests.state.states import ADA, Terminal
from tests.support.cases import THOROUGH
from tests.support.processes import Apictl

ROLE: Final = "roles: [{name: support, scopes: [users:read]}]\n"


def loaded(folder: Path, *texts: str | bytes, suffix: str = "yaml") -> Any:
    """Return what these texts say together, as files of a folder."""
    for number, text in enumerate(texts):
        (folder / f"{number}.{suffix}").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load([folder]).state.model_dump(exclude_unset=True)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_json_is_what_it_is(tmp_path: Path, suffix: str) -> None:
    """What YAML knows not, or knows otherwise: tabs, a slash that is escaped, pairs of surrogates."""
    text = '{\n\t"owner":\t"x",\n\t"users": [{"email": "a@example.com", "full_name": "\\/ \\ud83d\\ude00 no"}]}'
    assert loaded(tmp_path, text, suffix=suffix)["users"] == [{"email": "a@example.com", "full_name": "/ 😀 no"}]


def test_yaml_is_text_where_text_is_meant(tmp_path: Path) -> None:
    text = (
        'owner: 2026-11-26\nusers: [{email: a@example.com, full_name: 1.5}, {email: "b@example.com", full_name: "no"}]'
    )
    assert loaded(tmp_path, text) == {
        "owner": "2026-11-26",
        "users": [
            {"email": "a@example.com", "full_name": "1.5"},
            {"email": "b@example.com", "full_name": "no"},
        ],
    }


def test_a_folder_is_one_state(tmp_path: Path) -> None:
    (tmp_path / ".hidden.yaml").write_text("owner: no", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("owner: no", encoding="utf-8")
    people = "users: [{email: a@example.com}]\n"
    found = loaded(tmp_path, f"owner: x\n{ROLE}", f"owner: x\n{people}", "users: [{email: b@example.com}]")
    assert [user["email"] for user in found["users"]] == ["a@example.com", "b@example.com"]
    assert [role["name"] for role in found["roles"]] == ["support"]
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "d.YAML").write_text("users:\nroles: []", encoding="utf-8")
    assert loaded(tmp_path, f"owner: x\n{ROLE}", f"owner: x\n{people}", "users: [{email: b@example.com}]") == found
    (tmp_path / "link").symlink_to(tmp_path / "more")
    with pytest.raises(BadRequest, match="link to another folder"):
        load([tmp_path])
    (tmp_path / "link").unlink()
    with pytest.raises(BadRequest, match="read once"):
        load([Path("-"), Path("-")])
    # Where it is, and not where it would be if all were one file.
    with pytest.raises(InvalidInput) as refused:
        loaded(
            tmp_path, f"owner: x\n{people}", f"{ROLE}users:\n  - email: b@example.com\n  - emall: c@example.com\n", "{}"
        )
    assert [f"{item['field']}: {item['message']}" for item in refused.value.errors] == [
        f"users.2.email: {tmp_path}/1.yaml, line 4, column 5: it is missing",
        f"users.2.emall: {tmp_path}/1.yaml, line 4, column 5: there is no such field",
    ]
    with pytest.raises(BadRequest, match=r"1\.yaml, line 1, column 1: .*0\.yaml, line 1, column 1 says another owner"):
        loaded(tmp_path, "owner: x", "owner: y")


WRONG: Final = {
    "owner: x\nusers: [\n": "line 3, column 1: did not find expected node content",
    "owner: x\n\tusers: []": "line 2, column 1: found ",
    "owner: x\nowner: y": "line 2, column 1: owner is there twice",
    "a: &b [1]\nc: *b": "line 2, column 4: references to another place (*name) are not read here",
    "a: &b [*b]": "line 1, column 8: references to another place (*name) are not read here",
    "- owner: x": "line 1, column 1: it is no mapping",
    "": "line 1, column 1: it is no mapping",
    "owner: x\n---\nowner: y": "line 2, column 1: another document begins",
    "? [a]\n: b": "line 1, column 3: a name is a text",
    b"owner: x\nusers: \xff": "line 2, column 1: it is not UTF-8",
    "owner: x\nroles:\n  - é\0": "line 3, column 6: no YAML has the character '\\x00'",
    "[" * 50_000: "column 52: it is nested too deeply",
    "owner: x\nroles:\n  - name: a\n    scopes: [users:fly]": "line 4, column 5: there is no scope users:fly",
    "owner: x\nusers:\n  - email: a\n": "line 3, column 5: an email address must have an @-sign",
    "owner: x\nusers: [{email: a@example.com, password: hunter2}]": "line 2, column 32: a password does not stand",
    "owner: x\nusers: [{email: a@example.com, password: {env: A, file: b}}]": "a password does not stand here itself",
    "owner: x\nusers: [{email: a@example.com, password: {env: my hunter2}}]": "a password does not stand here itself",
    "owner: x\nusers: 5": "line 2, column 1: it must be a list",
    f"owner: x\nroles: {'9' * 5000}": "line 2, column 1: it must be a list",
    "roles: []": "owner: ",
}


@pytest.mark.parametrize("text", WRONG)
def test_whatever_is_wrong_has_its_place(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ApictlError) as refused:
        loaded(tmp_path, text)
    assert WRONG[text] in refused.value.detail
    assert "hunter2" not in str(refused.value.problem())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"owner": "x",}', "line 1, column 15: Illegal trailing comma before end of object"),
        ('{"owner": "x", "owner": "y"}', "line 1, column 16: owner is there twice"),
        ('{"owner": "\\ud83d\\ude00", "owner": "y"}', "0.json: owner is there twice in one object"),
        (f'{{"owner": {"9" * 5000}}}', "0.json: Exceeds the limit"),
        ('{"owner": "x"} {}', "line 1, column 16: Extra data"),
        ('{"owner": "x",\n\t"users": [{"email": 5}]}', "line 2, column 13: it must be text"),
        ('{"owner":\n' + "[" * 50_000, "line 2, column 51: it is nested too deeply"),
    ],
)
def test_json_has_places_too(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ApictlError) as refused:
        loaded(tmp_path, text, suffix="json")
    if "trailing" in problem:
        # As the versions of Python say it.
        assert "line 1, column 15" in refused.value.detail
    else:
        assert problem in refused.value.detail


async def test_what_is_named_twice_has_both_places(terminal: Terminal, admin: httpx2.AsyncClient) -> None:
    users = [{"email": ADA, "api_keys": [{"name": "k"}, {"name": "k"}]}, {"email": ADA.upper()}]
    refused = await admin.post("/v1/apply", json={"owner": "x", "users": users})
    fields = ["users.0", "users.1", "users.0.api_keys.0", "users.0.api_keys.1"]
    assert (refused.status_code, [error["field"] for error in refused.json()["errors"]]) == (422, fields)
    ended = await terminal("plan", "owner: x\nroles:\n- {name: r, scopes: []}\n- {name: r, scopes: []}\n")
    assert (ended.code, ended.err.count("role r is named more than once")) == (6, 3)
    assert "field: roles.1: -, line 4, column 3" in ended.err


@settings(max_examples=2000 if THOROUGH else 200, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet="{}[]:,-&*!|>'\"#%@ \n\tabo0", max_size=60)))
def test_no_file_is_a_bug(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with suppress(ApictlError):
        load([file])


async def test_passwords_stand_elsewhere(
    apictl: Apictl,
    environment: Mapping[str, str],
    client: httpx2.AsyncClient,
    database: asyncpg.Connection,
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secrets" / "bob"
    secret.parent.mkdir()
    secret.write_text("another four unrelated words\n", encoding="utf-8")
    file = tmp_path / "state.yaml"
    people = [
        {"email": "ada@example.com", "password": {"env": "ADA"}},
        {"email": "bob@example.com", "password": {"file": "secrets/bob"}},
    ]
    file.write_text(json.dumps({"owner": "x", "users": people}), encoding="utf-8")
    line = ("apply", "-f", str(file))
    missing = await apictl(*line, environment=environment)
    assert (missing.code, "the variable ADA" in missing.err) == (2, True)
    given_one = {**environment, "ADA": "four unrelated words here"}
    open_file = await apictl(*line, environment=given_one)
    assert (open_file.code, "chmod 600" in open_file.err) == (2, True)
    assert await database.fetchval("SELECT count(*) FROM users") == 0
    secret.chmod(0o600)
    done = await apictl(*line, environment=given_one)
    assert done.code == 0, done.err
    assert "unrelated" not in done.out + done.err
    await log_in(client, "ada@example.com", "four unrelated words here")
    await log_in(client, "bob@example.com", "another four unrelated words")
    # Who is there keeps theirs, and nobody looks for another.
    secret.unlink()
    again = await apictl(*line, environment={**environment, "ADA": "other unrelated words here"})
    assert (again.code, again.json()["changes"]) == (0, [])
    await log_in(client, "ada@example.com", "four unrelated words here")


SCHEMA: Final = ROOT / "docs" / "state.schema.json"


@pytest.mark.parametrize(
    ("password", "fine"),
    [({"env": "A"}, True), ({"file": "b"}, True), ("x", False), ({"env": "A", "file": "b"}, False)],
)
def test_editors_are_told_the_same(tmp_path: Path, password: object, fine: bool) -> None:
    state = {"owner": "x", "users": [{"email": "a@example.com", "password": password}]}
    schema = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert schema.is_valid(state) is fine
    (tmp_path / "state.json").write_text(json.dumps(state), encoding="utf-8")
    with nullcontext() if fine else pytest.raises(BadRequest):
        load([tmp_path])
    assert not schema.is_valid(state | {"user": []})
