"""Roles through each door: the same rows, audit entries and error codes."""

import json
from typing import Any, Final

import asyncpg

from tests.conftest import SUPERUSER
from tests.support.doors import Door

ADA: Final = "ada@example.com"


async def scenario(door: Door) -> list[str | None]:
    """Do everything that there is to do with roles, well and badly; return each step's code."""
    steps: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
        ("create-user", (ADA,), {"no_password": True}),
        ("create-role", ("support",), {"scope": ["users:read", "tokens:read"], "description": "Helps"}),
        ("create-role", ("support",), {"scope": "users:read"}),
        ("create-role", ("superuser",), {"scope": "users:read"}),
        ("create-role", ("Support",), {"scope": "users:read"}),
        ("create-role", ("other",), {"scope": "users:everything"}),
        ("show-role", ("support",), {}),
        ("show-role", ("nobody",), {}),
        ("grant-role", (ADA, "support"), {"if_version": 1}),
        ("grant-role", (ADA, "support"), {}),
        ("grant-role", (ADA, "support"), {"if_version": 1}),
        ("grant-role", (ADA, "nobody"), {}),
        ("grant-role", ("bob@example.com", "support"), {}),
        ("delete-role", ("support",), {}),
        ("update-role", ("support",), {"scope": "users:read", "if_version": 1}),
        ("update-role", ("support",), {"scope": "users:read"}),
        ("update-role", ("support",), {"description": "x", "if_version": 1}),
        ("update-role", ("nobody",), {"description": "x"}),
        ("revoke-role", (ADA, "support"), {}),
        ("revoke-role", (ADA, "support"), {}),
        ("delete-role", ("support",), {"if_version": 1}),
        ("delete-role", ("support",), {"if_version": 2}),
        ("delete-role", ("support",), {}),
        ("explain", (), {"user": ADA, "can": "users:fly"}),
        ("explain", (), {"user": "bob@example.com", "can": "users:read"}),
    ]
    return [(await door.do(verb, *arguments, **options)).code for verb, arguments, options in steps]


EXPECTED: Final = [
    None,
    None,
    "role-exists",
    "invalid-input",
    "invalid-input",
    "invalid-input",
    None,
    "role-not-found",
    None,
    None,
    "stale-version",
    "role-not-found",
    "user-not-found",
    "role-in-use",
    None,
    None,
    "stale-version",
    "role-not-found",
    None,
    None,
    "stale-version",
    None,
    "role-not-found",
    "invalid-input",
    "user-not-found",
]
ENTRIES: Final = [
    ("role.create", {"role": "support", "scopes": ["tokens:read", "users:read"]}),
    ("user.grant_role", {"role": "support", "roles": ["support"]}),
    ("role.update", {"role": "support", "scopes": ["users:read"]}),
    ("user.revoke_role", {"role": "support", "roles": []}),
    ("role.delete", {"role": "support", "scopes": ["users:read"]}),
]


async def test_scenario_leaves_the_same_rows_entries_and_codes(door: Door, database: asyncpg.Connection) -> None:
    assert await scenario(door) == EXPECTED
    entries = await database.fetch("SELECT * FROM audit_entries WHERE action LIKE '%role%' ORDER BY at, id")
    assert [(entry["action"], json.loads(entry["detail"])) for entry in entries] == ENTRIES
    assert {entry["door"] for entry in entries} == {door.name}
    assert await database.fetchval("SELECT count(*) FROM roles") == 0
    assert await database.fetchval("SELECT (roles, version)::text FROM users WHERE email = $1", ADA) == "({},3)"


async def test_lists(door: Door) -> None:
    for name in ("b", "a", "c"):
        await door.do("create-role", name, scope="users:read")
    await door.do("create-user", ADA, no_password=True)
    await door.do("grant-role", ADA, "b")
    first = (await door.do("list-roles", limit=2)).body
    assert [role["name"] for role in first["items"]] == ["a", "b"]
    second = (await door.do("list-roles", limit=2, cursor=first["next_cursor"])).body
    assert ([role["name"] for role in second["items"]], second["next_cursor"]) == (["c"], None)
    assert (await door.do("list-roles", cursor="x")).code == "bad-request"
    assert [user["email"] for user in (await door.do("list-users", role="b")).body["items"]] == [ADA]
    assert (await door.do("list-users", role="a")).body["items"] == []


async def test_explanations(door: Door, database: asyncpg.Connection) -> None:
    await door.do("create-role", "support", scope="users:read")
    await door.do("create-user", ADA, no_password=True)
    await door.do("grant-role", ADA, "support")

    async def explained(user: str, can: str) -> tuple[bool, str]:
        answer = (await door.do("explain", user=user, can=can)).body
        assert (answer["user"], answer["can"]) == (user, can.replace(".", ":"))
        return answer["allowed"], answer["rule"]

    assert await explained(SUPERUSER, "users.delete") == (True, "a superuser holds every scope")
    assert await explained(ADA, "users:read") == (True, "the role support holds it")
    refused = (False, "the user is no superuser, and none of their roles holds it")
    assert await explained(ADA, "users:delete") == refused
    await door.do("create-service-account", "deploy", role="support")
    assert await explained("deploy", "users:read") == (True, "the role support holds it")
    await database.execute("UPDATE roles SET scopes = '{a:scope:of:old}'")
    assert await explained(ADA, "users:read") == refused
    await door.do("deactivate-user", ADA)
    assert await explained(ADA, "users:read") == (False, "the user is deactivated")
