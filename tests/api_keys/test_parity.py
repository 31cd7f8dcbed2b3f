"""API keys and service accounts through each door: the same rows, audit entries and error codes."""

import json
from typing import Any, Final

import asyncpg

from tests.conftest import PASSWORD, SUPERUSER
from tests.support.doors import Answer, Door

ADA: Final = "ada@example.com"
UNKNOWN: Final = "00000000-0000-7000-8000-000000000000"


async def test_service_accounts(door: Door, database: asyncpg.Connection) -> None:
    steps: list[tuple[str, tuple[str, ...], dict[str, Any], str | None]] = [
        ("create-role", ("deployer",), {"scope": "users:read"}, None),
        ("create-service-account", ("deploy",), {"full_name": "Deploys", "role": "deployer"}, None),
        ("create-service-account", ("deploy",), {}, "service-account-exists"),
        ("create-service-account", ("deploy",), {"if_exists": "skip", "full_name": "x"}, None),
        ("create-service-account", ("other",), {"role": "nobody"}, "role-not-found"),
        ("create-service-account", ("Deploy",), {}, "invalid-input"),
        ("create-service-account", ("me",), {}, "invalid-input"),
        ("create-service-account", ("abcdef01-2345-7890-abcd-ef0123456789",), {}, "invalid-input"),
        ("show-user", ("deploy",), {}, None),
        ("show-user", ("nobody",), {}, "user-not-found"),
        ("set-password", ("deploy",), {"secret": PASSWORD}, "not-for-service-accounts"),
        ("promote-user", ("deploy",), {}, "not-for-service-accounts"),
        ("update-user", ("deploy",), {"email": "deploy@example.com"}, "not-for-service-accounts"),
        ("update-user", ("deploy",), {"full_name": "Deploys it"}, None),
        ("revoke-role", ("deploy", "deployer"), {}, None),
        ("deactivate-user", ("deploy",), {}, None),
        ("activate-user", ("deploy",), {}, None),
        ("create-service-account", ("backup",), {}, None),
        ("delete-user", ("backup",), {}, None),
    ]
    for verb, arguments, options, code in steps:
        assert (await door.do(verb, *arguments, **options)).code == code, (verb, arguments)
    listed = (await door.do("list-service-accounts")).body["items"]
    assert [(one["kind"], one["name"], one["email"], one["full_name"]) for one in listed] == [
        ("service", "deploy", None, "Deploys it")
    ]
    assert [user["email"] for user in (await door.do("list-users")).body["items"]] == [SUPERUSER]
    assert (await door.do("list-service-accounts", search="depl")).body["items"] == listed
    assert (await door.do("list-service-accounts", role="deployer")).body["items"] == []
    entries = await database.fetch("SELECT * FROM audit_entries WHERE target = 'user' ORDER BY at, id")
    assert [(entry["action"], json.loads(entry["detail"])) for entry in entries][1:] == [
        ("user.create", {"name": "deploy"}),
        ("user.grant_role", {"role": "deployer", "roles": ["deployer"]}),
        ("user.update", {"full_name": "Deploys it"}),
        ("user.revoke_role", {"role": "deployer", "roles": []}),
        ("user.deactivate", {"is_active": False}),
        ("user.activate", {"is_active": True}),
        ("user.create", {"name": "backup"}),
        ("user.delete", {"user": "backup"}),
    ]


async def test_keys(door: Door, database: asyncpg.Connection) -> None:
    await door.do("create-user", ADA, no_password=True)
    await door.do("create-user", "bob@example.com", no_password=True)
    await door.do("deactivate-user", "bob@example.com")
    made = await door.do("create-api-key", SUPERUSER, name="export", scope="users:read", network="10.1.2.3/8")
    shown = {"id", "user_id", "user", "name", "scopes", "networks", "is_live", "created_at", "expires_at", "key"}
    shown |= {"last_used_at", "last_used_address", "successor_id", "revoked_at"}
    assert set(made.body) == shown
    assert made.body["networks"] == ["10.0.0.0/8"]
    codes = [
        (await door.do("create-api-key", "carol@example.com", name="x")).code,
        (await door.do("create-api-key", "bob@example.com", name="x")).code,
        (await door.do("create-api-key", ADA, name="x", scope="users:read")).code,
        (await door.do("create-api-key", ADA, name="x", scope="users:fly")).code,
        (await door.do("create-api-key", ADA, name="x", network="10.0.0.0/33")).code,
        (await door.do("create-api-key", ADA, name="x", expires_in=59)).code,
        (await door.do("create-api-key", ADA, name="")).code,
        (await door.do("rotate-api-key", UNKNOWN)).code,
        (await door.do("rotate-api-key", "x")).code,
        (await door.do("rotate-api-key", made.body["id"], overlap=-1)).code,
        (await door.do("revoke-api-key", UNKNOWN)).code,
        (await door.do("revoke-api-key", "x")).code,
    ]
    assert codes == [
        "user-not-found",
        "user-inactive",
        "scope-exceeds-owner",
        "invalid-input",
        "invalid-input",
        "invalid-input",
        "invalid-input",
        "api-key-not-found",
        "invalid-input",
        "invalid-input",
        "api-key-not-found",
        "invalid-input",
    ]
    rotated = await door.do("rotate-api-key", made.body["id"], overlap=60)
    assert {**rotated.body, "id": "", "key": "", "created_at": "", "expires_at": ""} == {
        **made.body, "id": "", "key": "", "created_at": "", "expires_at": "",
    }  # fmt: skip
    assert (await door.do("rotate-api-key", made.body["id"])).code == "api-key-ended"
    ended: list[Answer] = [await door.do("revoke-api-key", rotated.body["id"]) for _ in range(2)]
    assert [(answer.code, answer.body["is_live"]) for answer in ended] == [(None, False)] * 2
    assert (await door.do("rotate-api-key", rotated.body["id"])).code == "api-key-ended"
    listed = (await door.do("list-api-keys", SUPERUSER)).body["items"]
    assert [(key["id"], key["is_live"]) for key in listed] == [(rotated.body["id"], False), (made.body["id"], True)]
    assert [key["id"] for key in (await door.do("list-api-keys", live=True)).body["items"]] == [made.body["id"]]
    page = (await door.do("list-api-keys", limit=1)).body
    rest = (await door.do("list-api-keys", limit=1, cursor=page["next_cursor"])).body
    assert [key["id"] for key in (*page["items"], *rest["items"])] == [rotated.body["id"], made.body["id"]]

    entries = await database.fetch("SELECT * FROM audit_entries WHERE target = 'api_key' ORDER BY at, id")
    assert [(entry["action"], json.loads(entry["detail"])) for entry in entries] == [
        ("api_key.create", {"user": SUPERUSER, "name": "export", "scopes": ["users:read"]}),
        ("api_key.rotate", {"user": SUPERUSER, "successor": rotated.body["id"], "overlap": 60}),
        ("api_key.revoke", {"user": SUPERUSER}),
    ]
    assert {entry["door"] for entry in entries} == {door.name}
    dump = str(await database.fetch("SELECT * FROM api_keys")) + str(
        await database.fetch("SELECT * FROM audit_entries")
    )
    for secret in (made.body["key"], rotated.body["key"]):
        assert secret[-60:-6] not in dump


async def test_a_key_for_good(door: Door) -> None:
    options: dict[str, Any] = {"no_expiry": True} if door.name == "cli" else {"expires_in": None}
    made = await door.do("create-api-key", SUPERUSER, name="for good", **options)
    assert made.body["expires_at"] is None
    rotated = await door.do("rotate-api-key", made.body["id"], overlap=60)
    assert rotated.body["expires_at"] is None
