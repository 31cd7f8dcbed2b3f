"""The signature test: the same scenario through each door leaves the same rows, audit entries and error codes."""

import json
from typing import Any, Final
from urllib.parse import quote

import asyncpg
import pytest

from tests.conftest import PASSWORD, SUPERUSER
from tests.support.doors import CliDoor, Door, HttpDoor

ADA: Final = "ada@example.com"
SHOWN: Final = {
    "id",
    "kind",
    "email",
    "name",
    "full_name",
    "is_active",
    "is_superuser",
    "roles",
    "email_verified_at",
    "created_at",
    "updated_at",
    "last_login_at",
    "version",
}


async def scenario(door: Door) -> list[str | None]:
    """Do everything that there is to do with users, well and badly; return each step's code."""
    answers = [
        await door.do("create-user", "Ada@EXAMPLE.com", full_name=" Ada Lovelace", secret=PASSWORD),
        await door.do("create-user", ADA, no_password=True),
        await door.do("create-user", ADA, no_password=True, if_exists="skip"),
        await door.do("create-user", ADA, no_password=True, if_exists="update", full_name="Ada K."),
        await door.do("create-user", "nobody", no_password=True),
        await door.do("create-user", "bob@example.com", secret="password"),
        await door.do("create-user", "bob@example.com", no_password=True, superuser=True),
        await door.do("show-user", "ADA@example.com"),
        await door.do("show-user", "carol@example.com"),
        await door.do("update-user", ADA, full_name="Ada King", if_version=2),
        await door.do("update-user", ADA, full_name="Ada Byron", if_version=2),
        await door.do("update-user", ADA, email="bob@example.com"),
        await door.do("update-user", ADA, email="ada.king@example.com"),
        await door.do("set-password", "ada.king@example.com", secret="another four unrelated words"),
        await door.do("set-password", "ada.king@example.com", secret="aaaaaaaaaaaaaaaaaaaa"),
        await door.do("promote-user", "ada.king@example.com"),
        await door.do("demote-user", "ada.king@example.com"),
        await door.do("deactivate-user", "ada.king@example.com"),
        await door.do("deactivate-user", "ada.king@example.com"),
        await door.do("activate-user", "ada.king@example.com"),
        await door.do("demote-user", "bob@example.com"),
        await door.do("demote-user", SUPERUSER),
        await door.do("deactivate-user", SUPERUSER),
        await door.do("delete-user", SUPERUSER),
        await door.do("delete-user", "bob@example.com"),
        await door.do("delete-user", "bob@example.com"),
    ]
    return [answer.code for answer in answers]


EXPECTED: Final = [
    None,
    "email-taken",
    None,
    None,
    "invalid-input",
    "weak-password",
    None,
    None,
    "user-not-found",
    None,
    "stale-version",
    "email-taken",
    None,
    None,
    "weak-password",
    None,
    None,
    None,
    None,
    None,
    None,
    "last-superuser",
    "last-superuser",
    "last-superuser",
    None,
    "user-not-found",
]
ENTRIES: Final = [
    ("user.create", {"email": SUPERUSER, "is_superuser": True}),
    ("user.create", {"email": ADA, "is_superuser": False}),
    ("user.update", {"full_name": "Ada K."}),
    ("user.create", {"email": "bob@example.com", "is_superuser": True}),
    ("user.update", {"full_name": "Ada King"}),
    ("user.update", {"email": "ada.king@example.com", "email_verified_at": None}),
    ("user.set_password", {}),
    ("user.promote", {"is_superuser": True}),
    ("user.demote", {"is_superuser": False}),
    ("user.deactivate", {"is_active": False}),
    ("user.activate", {"is_active": True}),
    ("user.demote", {"is_superuser": False}),
    ("user.delete", {"user": "bob@example.com"}),
]


async def test_scenario_leaves_the_same_rows_entries_and_codes(door: Door, database: asyncpg.Connection) -> None:
    assert await scenario(door) == EXPECTED
    entries = await database.fetch("SELECT * FROM audit_entries WHERE target = 'user' ORDER BY at, id")
    assert [(entry["action"], json.loads(entry["detail"])) for entry in entries] == ENTRIES
    assert {entry["door"] for entry in entries[1:]} == {door.name}
    rows = await database.fetch("SELECT email, full_name, is_active, is_superuser, version FROM users ORDER BY email")
    assert [tuple(row) for row in rows] == [
        ("ada.king@example.com", "Ada King", True, False, 9),
        (SUPERUSER, "", True, True, 1),
    ]


async def test_an_update_without_a_name_keeps_the_name(door: Door) -> None:
    await door.do("create-user", ADA, full_name="Ada Lovelace", no_password=True)
    again = await door.do("create-user", ADA, no_password=True, if_exists="update")
    assert (again.code, again.body["full_name"], again.body["version"]) == (None, "Ada Lovelace", 1)


@pytest.fixture
async def both(http_door: HttpDoor, cli_door: CliDoor) -> list[Door]:
    return [http_door, cli_door]


async def test_both_doors_print_the_same_object(both: list[Door]) -> None:
    await both[0].do("create-user", ADA, full_name="Ada Lovelace", no_password=True)
    shown: list[dict[str, Any]] = [(await door.do("show-user", ADA)).body for door in both]
    assert shown[0] == shown[1]
    assert set(shown[0]) == SHOWN
    listed = [(await door.do("list-users", search="love", sort="-email", limit=1)).body for door in both]
    assert listed[0] == listed[1]
    assert [user["email"] for user in listed[0]["items"]] == [ADA]


async def test_both_doors_print_the_same_problem(both: list[Door]) -> None:
    problems = [(await door.do("create-user", "a\u00adda@", no_password=True)).body for door in both]
    for problem in problems:
        assert problem.pop("instance") in {"", "/v1/users"}
        problem.pop("request_id")
    assert problems[0] == problems[1]


REF_VERBS: Final = {
    "update-user": {"full_name": "x"},
    "set-password": {"secret": PASSWORD},
    "activate-user": {},
    "deactivate-user": {},
    "promote-user": {},
    "demote-user": {},
    "delete-user": {},
}


async def test_every_change_can_be_held_to_a_version(door: Door) -> None:
    made = (await door.do("create-user", ADA, no_password=True)).body
    for verb, options in REF_VERBS.items():
        stale: dict[str, Any] = {**options, "if_version": 7}
        assert (await door.do(verb, ADA, **stale)).code == "stale-version", verb
    assert (await door.do("show-user", ADA)).body == made


@pytest.mark.parametrize("limit", [201, 0, -1, 2**63])
async def test_lists_are_capped(door: Door, limit: int) -> None:
    for verb in ("list-users", "list-tokens", "list-api-keys", "list-roles", "list-service-accounts"):
        assert (await door.do(verb, limit=limit)).code == "invalid-input", verb


@pytest.mark.parametrize("ref", ["\x01", "x" * 400, "\u202e", "ada@example.com\n@x"])
async def test_what_can_name_nobody_is_refused_alike(door: Door, ref: str) -> None:
    for verb, options in {"show-user": {}, **REF_VERBS}.items():
        if door.name == "http":
            ref = quote(ref, safe="%")
        assert (await door.do(verb, ref, **options)).code == "invalid-input", verb


@pytest.mark.parametrize(
    ("secret", "code"),
    [("four unrelated \x00 words here", "invalid-input"), ("x" * 5000, "weak-password"), ("short", "weak-password")],
)
async def test_passwords_are_refused_alike(door: Door, secret: str, code: str) -> None:
    await door.do("create-user", ADA, no_password=True)
    assert (await door.do("set-password", ADA, secret=secret)).code == code
    assert (await door.do("create-user", "bob@example.com", secret=secret)).code == code
