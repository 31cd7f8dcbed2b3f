"""States: planned, applied and exported, at both doors; owned, drifted, and applied by many at once."""

import asyncio
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2
import pytest

from tests.conftest import SUPERUSER
from tests.support.processes import Apictl, Finished, run

ADA, BOB = "ada@example.com", "bob@example.com"
KEY: Final = {"name": "web site", "scopes": ["users:read"], "networks": ["10.0.0.0/8"], "expires_in": 3600}
STATE: Final[dict[str, Any]] = {
    "owner": "accounts",
    "roles": [{"name": "support", "description": "Helps", "scopes": ["users:read", "tokens:read"]}],
    "users": [
        {"email": "Ada@example.com", "full_name": "Ada", "is_superuser": True},
        {"email": BOB, "roles": ["support"], "is_active": False},
    ],
    "service_accounts": [{"name": "deploy", "roles": ["support"], "api_keys": [KEY]}],
}
NAMES: Final = ["role support", f"user {ADA}", f"user {BOB}", "service-account deploy", "api-key deploy/web site"]
ROWS: Final = {
    "users": """SELECT kind, email, name, full_name, is_active, is_superuser, roles, version FROM users
        WHERE email IS DISTINCT FROM 'root@example.com' ORDER BY email, name""",
    "roles": "SELECT name, description, scopes, version FROM roles ORDER BY name",
    "keys": "SELECT name, scopes, networks, expires_at - created_at, revoked_at IS NULL FROM api_keys ORDER BY id",
    "ownerships": """SELECT kind, name, owner, target_id IS NULL, made_at IS NULL, applied FROM ownerships
        ORDER BY kind, name""",
    "audit": "SELECT action, target, detail FROM audit_entries ORDER BY at, id",
}  # fmt: skip


async def rows(database: asyncpg.Connection) -> dict[str, list[asyncpg.Record]]:
    """Return everything that a state is about, but ids and times."""
    return {name: await database.fetch(statement) for name, statement in ROWS.items()}


class Terminal:
    """The commands, with the state on standard input."""

    def __init__(self, apictl: Apictl, environment: Mapping[str, str]) -> None:
        self._apictl = apictl
        self._environment = environment

    async def __call__(self, command: str, state: Any, *options: str) -> Finished:
        text = state if isinstance(state, str) else json.dumps(state)
        return await self._apictl(command, "-f", "-", *options, environment=self._environment, stdin=text)

    async def run(self, *line: str) -> Finished:
        ended = await self._apictl(*line, environment=self._environment)
        assert ended.code == 0, ended.err
        return ended


@pytest.fixture
def terminal(apictl: Apictl, environment: dict[str, str], superuser: object) -> Terminal:
    """The terminal, beside a superuser who is there already."""
    del superuser
    return Terminal(apictl, environment)


def without(*paths: str) -> dict[str, Any]:
    """Return the state without these parts, as `users.1`."""
    state: dict[str, Any] = json.loads(json.dumps(STATE))
    for path in paths:
        *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        found: Any = state
        for part in parents:
            found = found[part]
        del found[last]
    return state


def changes(answer: Mapping[str, Any]) -> list[str]:
    """Return a plan's changes in short."""
    return [f"{change['action']} {change['kind']} {change['name']}" for change in answer["changes"]]


async def test_both_doors_make_the_same_of_a_state(
    terminal: Terminal, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    on_terminal = await terminal("plan", STATE)
    over_http = await admin.post("/v1/plan", json=STATE)
    assert (on_terminal.code, on_terminal.json()) == (10, over_http.json())
    assert changes(over_http.json()) == [f"create {name}" for name in NAMES]
    await database.execute("DELETE FROM audit_entries")
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

    for table in ("ownerships", "audit_entries", "api_keys", "roles"):
        await database.execute(f"DELETE FROM {table}")  # noqa: S608 - of this list
    await database.execute("DELETE FROM users WHERE email IS DISTINCT FROM $1", SUPERUSER)
    assert await rows(database) == empty
    ended = await terminal("apply", STATE, "--show-keys")
    assert ended.code == 0, ended.err
    assert ended.json()["keys"][0]["key"].startswith("apictl_key_")
    assert ended.json()["changed"] is True
    assert await rows(database) == as_http

    # The second time, nothing: whichever door, and whoever owns it.
    for state in (STATE, STATE | {"owner": "others"}):
        again = await terminal("apply", state)
        assert (again.code, again.json()["changes"], again.json()["unchanged"]) == (0, [], 5)
        assert again.json()["changed"] is False
        answer = (await admin.post("/v1/apply", json=state)).json()
        assert (answer["changes"], answer["unchanged"], answer["keys"]) == ([], 5, [])
        assert (await terminal("plan", state)).code == 0
    assert await rows(database) == as_http


async def test_a_dry_run_changes_nothing(terminal: Terminal, database: asyncpg.Connection) -> None:
    before = await rows(database)
    ended = await terminal("apply", STATE, "--dry-run", "--show-keys")
    assert (ended.code, changes(ended.json())) == (0, [f"create {name}" for name in NAMES])
    assert ended.json()["dry_run"] is True
    assert "apictl_key_" not in ended.out
    assert await rows(database) == before


async def test_drift_is_named(terminal: Terminal, admin: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    await terminal("apply", STATE, "--show-keys")
    key = await database.fetchval("SELECT id FROM api_keys")
    await terminal.run("update-user", ADA, "--full-name", "Augusta")
    assert (await admin.patch("/v1/roles/support", json={"scopes": ["users:read"]})).status_code == 200
    assert (await admin.delete(f"/v1/users/{BOB}")).status_code == 200
    await terminal.run("revoke-api-key", str(key))
    # What is not in the state, and what the file itself has changed, is no drift.
    await terminal.run("deactivate-user", "deploy")
    state = json.loads(json.dumps(STATE))
    state["service_accounts"][0]["full_name"] = "Deploys"
    plan = (await terminal("plan", state)).json()
    told = {change["name"]: change for change in plan["changes"]}
    assert [(name, told[name]["action"], (told[name]["changed_by"] or "").partition("@")[0]) for name in told] == [
        ("support", "update", "root"),
        (ADA, "update", "operator:root"),
        (BOB, "create", "root"),
        ("deploy", "update", ""),
        ("deploy/web site", "create", "operator:root"),
    ]
    assert told["support"]["fields"] == [
        {"field": "scopes", "before": ["users:read"], "after": ["tokens:read", "users:read"], "is_drift": True}
    ]
    assert [field["is_drift"] for field in told["deploy"]["fields"]] == [False]
    actions = {"support": "role.update", ADA: "user.update", BOB: "user.delete", "deploy/web site": "api_key.revoke"}
    for name, action in actions.items():
        at = await database.fetchval("SELECT max(at) FROM audit_entries WHERE action = $1", action)
        assert told[name]["changed_at"] == at.isoformat().replace("+00:00", "Z"), name
    assert (await terminal("plan", state)).code == 10
    shown = await terminal("plan", state, "-o", "table")
    assert "- user" not in shown.out
    assert f"~ user {ADA}   changed by operator:root@" in shown.out
    assert shown.out.splitlines()[-1] == "2 to be created, 3 to be changed; 0 unchanged."


async def test_only_what_the_owner_made_is_deleted(
    terminal: Terminal, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    # There before: the state changes her, and does not own her.
    await terminal.run("create-user", ADA, "--no-password")
    await terminal("apply", STATE, "--show-keys")
    await terminal.run("create-role", "other")
    # Somebody else's of the same name.
    await terminal.run("delete-user", BOB, "--yes")
    await terminal.run("create-user", BOB, "--no-password")
    nothing = {"owner": "accounts"}
    removed = ["delete service-account deploy", "delete role support"]
    before = await rows(database)
    assert changes((await terminal("plan", nothing)).json()) == removed
    for ended in (await terminal("apply", nothing), await terminal("apply", nothing, "--no-input")):
        assert (ended.code, ended.out) == (2, "")
        assert "- service-account deploy" in ended.err
        assert "--yes" in ended.err
    refused = await admin.post("/v1/apply", json=nothing)
    assert (refused.status_code, refused.json()["code"]) == (409, "would-destroy")
    assert await rows(database) == before
    done = await terminal("apply", nothing, "--yes")
    assert (done.code, changes(done.json())) == (0, removed)
    after = await rows(database)
    assert [row["email"] for row in after["users"]] == [ADA, BOB]
    assert [row["name"] for row in after["roles"]] == ["other"]
    assert (after["ownerships"], after["keys"]) == ([], [])
    assert (await admin.post("/v1/apply", json=nothing)).json()["changes"] == []


async def test_a_key_that_differs_is_replaced(
    terminal: Terminal, admin: httpx2.AsyncClient, database: asyncpg.Connection, tmp_path: Path
) -> None:
    kept = tmp_path / "keys.jsonl"
    refused = await terminal("apply", STATE)
    assert (refused.code, await database.fetchval("SELECT count(*) FROM users")) == (2, 1)
    assert "--keys-to" in refused.err
    first = await terminal("apply", STATE, "--keys-to", str(kept))
    assert (first.code, "apictl_key_" in first.out) == (0, False)
    wider = json.loads(json.dumps(STATE).replace('["10.0.0.0/8"]', "null"))
    answer = await admin.post("/v1/plan", json=wider)
    assert changes(answer.json()) == ["replace api-key deploy/web site"]
    assert (await terminal("apply", wider, "--yes", "--keys-to", str(kept))).code == 0
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    old, new = [json.loads(line) for line in kept.read_text().splitlines()]
    for key, status in ((old, 401), (new, 200)):
        me = await admin.get("/v1/users/me", headers={"Authorization": f"Bearer {key['key']}"})
        assert me.status_code == status
    # Rotated, it is still what the state says; ended, it is made again.
    await terminal.run("rotate-api-key", new["id"])
    assert (await terminal("plan", wider)).code == 0
    await database.execute("UPDATE api_keys SET expires_at = now() - interval '1 day'")
    assert changes((await terminal("plan", wider)).json()) == ["create api-key deploy/web site"]
    kept.chmod(0o640)
    open_file = await terminal("apply", wider, "--keys-to", str(kept))
    assert (open_file.code, "chmod 600" in open_file.err) == (2, True)
    assert changes((await terminal("plan", wider)).json()) == ["create api-key deploy/web site"]


async def test_two_owners(terminal: Terminal, admin: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    await terminal("apply", STATE, "--show-keys")
    other = {"owner": "others", "roles": [{"name": "support", "scopes": ["users:read"]}]}
    for ended in (await terminal("plan", other), await terminal("apply", other)):
        assert ended.code == 5
        assert "accounts" in ended.err
    for path in ("/v1/plan", "/v1/apply"):
        refused = await admin.post(path, json=other)
        assert (refused.status_code, refused.json()["code"]) == (409, "owned-by-another")
    assert (await admin.post("/v1/apply", params={"take_over": True}, json=other)).status_code == 200
    assert await database.fetchval("SELECT owner FROM ownerships WHERE kind = 'role'") == "others"
    # Now the first one says otherwise.
    assert (await terminal("plan", STATE)).code == 5
    # What was taken over was not made by who has it now.
    assert changes((await terminal("plan", {"owner": "others"})).json()) == []


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


async def test_many_at_once(environment: dict[str, str], superuser: object, database: asyncpg.Connection) -> None:
    del superuser
    text = json.dumps(STATE)
    ended = await asyncio.gather(
        *(run("apply", "-f", "-", "--show-keys", environment=environment, stdin=text) for _ in range(6))
    )
    assert [one.code for one in ended] == [0] * 6, [one.err for one in ended]
    assert sorted(one.json()["changed"] for one in ended) == [False] * 5 + [True]
    assert await database.fetchval("SELECT count(*) FROM api_keys") == 1


async def test_an_export_is_a_state(
    terminal: Terminal, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    await terminal("apply", STATE, "--show-keys")
    await terminal.run("create-api-key", ADA, "--name", "for ever", "--no-expiry")
    rotated = (await terminal.run("create-api-key", ADA, "--name", "laptop", "-o", "ids")).out.strip()
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
    assert await rows(database) | {"ownerships": []} == before | {"ownerships": []}
    # In an empty world, it makes the same.
    for table in ("ownerships", "audit_entries", "api_keys", "users", "roles"):
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
    # Nothing would change; but whose it is would be written down.
    seeing = {"user": "deploy", "name": "x", "scopes": ["users:read", "roles:read", "api-keys:read"]}
    key = (await admin.post("/v1/api-keys", json=seeing)).json()["key"]
    as_deploy = {"Authorization": f"Bearer {key}"}
    assert (await admin.post("/v1/plan", json=fine, headers=as_deploy)).status_code == 200
    assert (await admin.post("/v1/apply", json=fine, headers=as_deploy)).status_code == 403
