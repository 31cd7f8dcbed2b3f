"""States: planned, applied and exported, at both doors; by many at once, and all or nothing."""

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.conftest import SUPERUSER
from tests.state.states import ADA, BOB, NAMES, STATE, Terminal, changes, rows
from tests.support.audit import forget_audit
from tests.support.cases import THOROUGH
from tests.support.processes import Apictl
from tests.support.terminal import terminal as on_terminal


async def test_both_doors_make_the_same_of_a_state(
    terminal: Terminal, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    on_terminal = await terminal("plan", STATE)
    over_http = await admin.post("/v1/plan", json=STATE)
    assert (on_terminal.code, on_terminal.json()) == (10, over_http.json())
    # It has no id.
    assert (await terminal("plan", STATE, "-o", "ids")).out == ""
    assert changes(over_http.json()) == [f"create {name}" for name in NAMES]
    await forget_audit(database)
    empty = await rows(database)

    applied = await admin.post("/v1/apply", json=STATE)
    assert (applied.status_code, changes(applied.json())) == (200, [f"create {name}" for name in NAMES])
    assert applied.headers["cache-control"] == "no-store"
    as_http = await rows(database)
    assert [tuple(row)[1:] for row in as_http["users"]] == [
        (ADA, None, "Ada", True, True, [], 1),
        (BOB, None, "", False, False, ["support"], 3),
        (None, "deploy", "", True, False, ["support"], 2),
    ]
    key = applied.json()["keys"][0]
    about = await admin.get("/v1/users/me", headers={"Authorization": f"Bearer {key['key']}"})
    # It works, but not from here.
    assert (about.status_code, key["user"], key["name"]) == (401, "deploy", "web site")

    await forget_audit(database)
    for table in ("ownerships", "api_keys", "roles"):
        await database.execute(f"DELETE FROM {table}")  # noqa: S608 - of this list
    await database.execute("DELETE FROM users WHERE email IS DISTINCT FROM $1", SUPERUSER)
    assert await rows(database) == empty
    ended = await terminal("apply", STATE, "--show-keys")
    assert ended.code == 0, ended.err
    assert ended.json()["keys"][0]["key"].startswith("apictl_key_")
    assert ended.json()["changed"] is True
    assert await rows(database) == as_http

    # The second time, nothing: whichever door, and whoever owns it; another owner is noted.
    noted: dict[str, Any] = {"ownerships": [], "audit": []}
    for state in (STATE, STATE | {"owner": "others"}):
        again = await terminal("apply", state)
        assert (again.code, again.json()["changes"], again.json()["unchanged"]) == (0, [], 5)
        assert again.json()["changed"] is False
        answer = (await admin.post("/v1/apply", json=state)).json()
        assert (answer["changes"], answer["unchanged"], answer["keys"]) == ([], 5, [])
        assert (await terminal("plan", state)).code == 0
    assert await rows(database) | noted == as_http | noted


async def test_a_dry_run_changes_nothing(terminal: Terminal, database: asyncpg.Connection) -> None:
    before = await rows(database)
    ended = await terminal("apply", STATE, "--dry-run", "--show-keys")
    assert (ended.code, changes(ended.json())) == (0, [f"create {name}" for name in NAMES])
    assert ended.json()["dry_run"] is True
    assert "apictl_key_" not in ended.out
    assert await rows(database) == before


async def test_all_or_nothing(terminal: Terminal, database: asyncpg.Connection) -> None:
    await terminal("apply", STATE, "--show-keys")
    await terminal.run("create-user", "eve@example.com", "--no-password")
    await terminal.run("grant-role", "eve@example.com", "support")
    before = await rows(database)
    # The role is the last thing to go, and Eve has it.
    ended = await terminal("apply", {"owner": "accounts"}, "--yes", "-o", "json")
    assert (ended.code, json.loads(ended.err.splitlines()[-1])["code"]) == (5, "role-in-use")
    assert await rows(database) == before


async def test_the_last_superuser_hands_over(terminal: Terminal, database: asyncpg.Connection) -> None:
    handover = {
        "owner": "accounts",
        "users": [{"email": SUPERUSER, "is_superuser": False}, {"email": BOB, "is_superuser": True}],
    }
    ended = await terminal("apply", handover)
    assert ended.code == 0, ended.err
    assert await database.fetchval("SELECT email FROM users WHERE is_superuser") == BOB
    nobody = {"owner": "accounts", "users": [{"email": BOB, "is_superuser": False}]}
    ended = await terminal("apply", nobody, "-o", "json")
    assert (ended.code, json.loads(ended.err)["code"]) == (5, "last-superuser")


async def test_many_at_once(
    apictl: Apictl, environment: dict[str, str], superuser: object, database: asyncpg.Connection
) -> None:
    del superuser
    text = json.dumps(STATE)
    ended = await asyncio.gather(
        *(apictl("apply", "-f", "-", "--show-keys", environment=environment, stdin=text) for _ in range(6))
    )
    assert [one.code for one in ended] == [0] * 6, [one.err for one in ended]
    assert sorted(one.json()["changed"] for one in ended) == [False] * 5 + [True]
    assert await database.fetchval("SELECT count(*) FROM api_keys") == 1


async def test_an_export_is_a_state(
    terminal: Terminal, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    await terminal("apply", STATE, "--show-keys")
    await terminal.run("create-api-key", ADA, "--name", "for ever", "--no-expiry")
    rotated = (await terminal.run("create-api-key", ADA, "--name", "laptop", "-o", "json")).json()["id"]
    await terminal.run("rotate-api-key", rotated)
    await terminal.run("create-user", "nothing@example.com", "--no-password")
    before = await rows(database)
    as_yaml = (await terminal.run("export-state", "--owner", "everything")).out
    as_json = (await terminal.run("export-state", "--owner", "everything", "-o", "json")).out
    over_http = await admin.get("/v1/state", params={"owner": "everything"})
    assert json.loads(as_json) == over_http.json()
    assert [key["expires_in"] for key in over_http.json()["users"][1]["api_keys"]] == [None, 90 * 86400]
    for text in (as_yaml, as_json):
        planned = await terminal("plan", text)
        assert (planned.code, planned.json()["changes"], planned.json()["unchanged"]) == (0, [], 9)
        assert (await terminal("apply", text)).json()["changed"] is False
    noted: dict[str, Any] = {"ownerships": [], "audit": []}
    assert await rows(database) | noted == before | noted
    # In an empty world, it makes the same.
    await forget_audit(database)
    for table in ("ownerships", "api_keys", "users", "roles"):
        await database.execute(f"DELETE FROM {table}")  # noqa: S608 - of this list
    assert (await terminal("apply", as_yaml, "--show-keys")).code == 0
    exported = (await terminal.run("export-state", "--owner", "everything")).out
    assert sorted(exported.splitlines()) == sorted(as_yaml.splitlines())


async def test_what_one_may(app: object, admin: httpx2.AsyncClient, terminal: Terminal) -> None:
    """A caller makes no more of a state than they may make themselves."""
    del app
    await terminal.run("create-service-account", "deploy")
    scopes = ["users:read", "users:write", "roles:read", "roles:write", "api-keys:read"]
    await admin.post("/v1/roles", json={"name": "provisioning", "scopes": scopes})
    await admin.put("/v1/users/deploy/roles/provisioning")
    key = (await admin.post("/v1/api-keys", json={"user": "deploy", "name": "x", "scopes": scopes})).json()["key"]
    as_deploy = {"Authorization": f"Bearer {key}"}
    fine = {"owner": "x", "roles": [{"name": "readers", "scopes": ["users:read"]}]}
    assert (await admin.post("/v1/apply", json=fine, headers=as_deploy)).status_code == 200
    for wish in (
        {"users": [{"email": BOB, "is_superuser": True}]},
        {"users": [{"email": SUPERUSER, "is_active": False}]},
        {"roles": [{"name": "mighty", "scopes": ["users:delete"]}]},
        {"service_accounts": [{"name": "deploy", "api_keys": [{"name": "more", "scopes": ["users:read"]}]}]},
    ):
        refused = await admin.post("/v1/apply", json={"owner": "y"} | wish, headers=as_deploy)
        assert (refused.status_code, refused.json()["code"]) == (403, "missing-scope"), wish
    assert (await terminal("plan", fine, "--as", "deploy")).code == 0
    # Whoever could not change something neither takes it from its owner nor lets it go for them.
    root = {"users": [{"email": SUPERUSER, "full_name": "Root"}]}
    assert (await terminal("apply", {"owner": "real"} | root)).code == 0
    for owner, named, how in (("squat", root, {"take_over": True}), ("real", {}, {})):
        refused = await admin.post("/v1/apply", json={"owner": owner} | named, params=how, headers=as_deploy)
        assert (refused.status_code, refused.json()["code"]) == (403, "missing-scope"), owner
    # What they name and could not change is not theirs.
    claim = {"owner": "claim", "users": [{"email": SUPERUSER, "is_active": True}]}
    assert (await admin.post("/v1/apply", json=claim, headers=as_deploy)).json()["changes"] == []
    assert (await terminal("plan", {"owner": "real", "users": [{"email": SUPERUSER, "full_name": "R"}]})).code == 10
    assert (await terminal("plan", {"owner": "claim"})).json()["released"] == []
    # To see is not to change, even where nothing would.
    seeing = {"user": "deploy", "name": "x", "scopes": ["users:read", "roles:read", "api-keys:read"]}
    key = (await admin.post("/v1/api-keys", json=seeing)).json()["key"]
    as_deploy = {"Authorization": f"Bearer {key}"}
    assert (await admin.post("/v1/plan", json=fine, headers=as_deploy)).status_code == 200
    assert (await admin.post("/v1/apply", json=fine, headers=as_deploy)).status_code == 403


async def test_what_was_looked_at_is_done_or_nothing(
    terminal: Terminal, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    digest = (await admin.post("/v1/plan", json=STATE)).json()["digest"]
    await terminal.run("create-role", "support")
    before = await rows(database)
    stale = await admin.post("/v1/apply", params={"plan": digest}, json=STATE)
    assert (stale.status_code, stale.json()["code"]) == (409, "stale-plan")
    assert await rows(database) == before
    digest = (await admin.post("/v1/plan", json=STATE)).json()["digest"]
    assert (await admin.post("/v1/apply", params={"plan": digest}, json=STATE)).status_code == 200


async def test_a_confirmation_is_of_what_was_shown(
    apictl: Apictl, environment: dict[str, str], terminal: Terminal, database: asyncpg.Connection, tmp_path: Path
) -> None:
    one = {"owner": "x", "roles": [{"name": "one", "scopes": []}]}
    assert (await terminal("apply", one)).code == 0
    (tmp_path / "none.json").write_text('{"owner": "x"}', encoding="utf-8")
    line = ("apply", "-f", str(tmp_path / "none.json"), "--quiet")
    with on_terminal(*line, environment=environment, start=apictl.start) as seen:
        seen.wait_for("to go on: ")
        assert "- role one" in seen.screen
        two = {"owner": "x", "roles": [*one["roles"], {"name": "two", "scopes": []}]}
        assert (await terminal("apply", two)).code == 0
        before = await rows(database)
        seen.type("x\n")
        assert (seen.end(), "The plan is another one by now" in seen.screen) == (5, True), seen.screen
    assert await rows(database) == before
    with on_terminal(*line, environment=environment, start=apictl.start) as seen:
        seen.wait_for("to go on: ")
        seen.type("x\n")
        assert (seen.end(), "2 deleted" in seen.screen) == (0, True), seen.screen


@pytest.mark.parametrize(
    ("state", "field", "code"),
    [
        ({"users": [{"email": ADA}, {"email": BOB, "roles": ["nothing"]}]}, "users.1.roles", "role-not-found"),
        (
            {"service_accounts": [{"name": "ci", "api_keys": [{"name": "k", "scopes": ["users:read"]}]}]},
            "service_accounts.0.api_keys.0.scopes",
            "scope-exceeds-owner",
        ),
    ],
)
async def test_a_plan_refuses_what_cannot_be(
    terminal: Terminal, admin: httpx2.AsyncClient, state: dict[str, Any], field: str, code: str
) -> None:
    refused = await admin.post("/v1/plan", json={"owner": "x"} | state)
    assert refused.status_code == 422
    assert [(error["field"], error["code"]) for error in refused.json()["errors"]] == [(field, code)]
    ended = await terminal("plan", "\n" + json.dumps({"owner": "x"} | state, indent=1))
    assert (ended.code, f"{field}: -, line " in ended.err) == (6, True), ended.err


async def test_whoever_sets_what_they_may_not_is_told_of_whom(terminal: Terminal) -> None:
    state = {"owner": "x", "users": [{"email": ADA}, {"email": SUPERUSER, "is_active": False}]}
    ended = await terminal("apply", state)
    assert (ended.code, ended.err.splitlines()[0]) == (
        5,
        f"error: user {SUPERUSER}: {SUPERUSER} is the last active superuser",
    )


@pytest.mark.skipif(not THOROUGH, reason="seconds of applying and granting: CI's second run has them")
async def test_nobody_waits_in_a_circle(admin: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    """Beside those who grant, revoke and deactivate one by one."""
    await admin.post("/v1/apply", json=STATE | {"service_accounts": []})
    dead = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = await database.fetchval(dead)

    async def apply() -> None:
        for number in range(20):
            state = json.loads(json.dumps(STATE).replace('"Ada"', f'"Ada {number}"')) | {"service_accounts": []}
            state["users"][1] |= {"full_name": f"Bob {number}", "roles": ["support"] if number % 2 else []}
            assert (await admin.post("/v1/apply", json=state)).status_code == 200

    async def others() -> None:
        for number in range(40):
            way = admin.put if number % 2 else admin.delete
            assert (await way(f"/v1/users/{BOB}/roles/support")).status_code == 200
            assert (await admin.post(f"/v1/users/{ADA}/{'de' * (number % 2)}activate")).status_code == 200

    await asyncio.gather(apply(), apply(), *(others() for _ in range(3)))
    await database.execute("SELECT pg_stat_clear_snapshot()")
    assert await database.fetchval(dead) == before
