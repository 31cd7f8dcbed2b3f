"""Whose things are: what drifts from a state, what ends with it, what changes hands; and the keys that it makes."""

import json
import os
import stat
from pathlib import Path

import asyncpg
import httpx2

from tests.conftest import PASSWORD, SUPERUSER
from tests.state.states import ADA, BOB, STATE, Terminal, changes, rows
from tests.support.processes import Apictl, bare_environment
from tests.support.server import serving


async def test_drift_is_named(terminal: Terminal, admin: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    await terminal("apply", STATE, "--show-keys")
    key = await database.fetchval("SELECT id FROM api_keys")
    await terminal.run("update-user", ADA, "--full-name", "Augusta")
    assert (await admin.patch("/v1/roles/support", json={"scopes": ["users:read"]})).status_code == 200
    assert (await admin.delete(f"/v1/users/{BOB}")).status_code == 200
    await terminal.run("revoke-api-key", str(key))
    # What is not in the state, and what the file itself has changed, is no drift.
    assert (await admin.put(f"/v1/users/{ADA}/password", json={"password": PASSWORD})).status_code == 200
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
    # Whoever changed what drifted, and not whoever changed something last.
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
    removed = ["delete api-key deploy/web site", "delete service-account deploy", "delete role support"]
    before = await rows(database)
    planned = (await terminal("plan", nothing)).json()
    assert (changes(planned), planned["released"]) == (removed, [f"user {ADA}"])
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
    # What was taken over is theirs now, also to delete.
    assert changes((await terminal("plan", {"owner": "others"})).json()) == ["delete role support"]


async def test_from_one_owner_to_another(terminal: Terminal, database: asyncpg.Connection) -> None:
    """What two name is not deleted by the one who made it, and is the other's from then on."""
    shared = {"users": [{"email": ADA, "full_name": "Ada"}]}
    for owner in ("one", "two"):
        assert (await terminal("apply", {"owner": owner} | shared)).code == 0
    # Both name it, so that it is not deleted with one of them.
    assert (await terminal("plan", {"owner": "one"})).json()["changes"] == []
    planned = (await terminal("plan", {"owner": "two"} | shared, "--take-over")).json()
    assert (planned["changes"], planned["taken_over"]) == ([], [f"user {ADA} of one"])
    assert (await terminal("apply", {"owner": "two"} | shared, "--take-over")).json()["changed"] is True
    assert (await terminal("apply", {"owner": "one"}, "--yes")).json()["changes"] == []
    assert await database.fetchval("SELECT count(*) FROM users WHERE email = $1", ADA) == 1
    assert changes((await terminal("apply", {"owner": "two"}, "--yes")).json()) == [f"delete user {ADA}"]
    # Both have set something of it: whoever stays has it.
    assert (await terminal("apply", {"owner": "one"} | shared)).code == 0
    active = {"owner": "two", "users": [{"email": ADA, "is_active": False}]}
    assert (await terminal("apply", active)).code == 0
    left = (await terminal("apply", {"owner": "one"}, "--yes")).json()
    assert (left["changes"], left["released"]) == ([], [f"user {ADA}"])
    assert changes((await terminal("plan", {"owner": "two"})).json()) == [f"delete user {ADA}"]


async def test_nothing_of_a_rotated_key_survives(terminal: Terminal, database: asyncpg.Connection) -> None:
    first = (await terminal("apply", STATE, "--show-keys")).json()["keys"][0]["id"]
    successor = (await terminal.run("rotate-api-key", first, "-o", "json")).json()["id"]
    assert (await terminal("apply", STATE)).json()["changes"] == []
    await terminal.run("revoke-api-key", successor)
    keyless = json.loads(json.dumps(STATE))
    del keyless["service_accounts"][0]["api_keys"]
    assert changes((await terminal("apply", keyless, "--yes")).json()) == ["delete api-key deploy/web site"]
    assert await database.fetchval("SELECT count(*) FROM api_keys WHERE revoked_at IS NULL") == 0


async def test_whoever_is_deactivated_waits_for_their_keys(terminal: Terminal, database: asyncpg.Connection) -> None:
    state = {"owner": "x", "users": [{"email": ADA, "is_active": False, "api_keys": [{"name": "k"}]}]}
    assert (await terminal("apply", state, "--show-keys")).code == 0
    await database.execute("UPDATE api_keys SET expires_at = now() - interval '1 s'")
    assert (await terminal("plan", state)).json()["changes"] == []
    # Nor is what is not there anybody's.
    assert await database.fetchval("SELECT count(*) FROM ownerships WHERE owner = 'y'") == 0
    other = {"owner": "y", "users": [{"email": ADA, "api_keys": [{"name": "another"}]}]}
    assert (await terminal("apply", other)).code == 0
    owned = await database.fetch("SELECT kind FROM ownerships WHERE owner = 'y'")
    assert [row["kind"] for row in owned] == ["user"]
    state["users"][0]["is_active"] = True  # type: ignore[index]
    assert changes((await terminal("plan", state)).json()) == [f"update user {ADA}", f"create api-key {ADA}/k"]


async def test_what_is_taken_over_from_many(terminal: Terminal, admin: httpx2.AsyncClient) -> None:
    names = [f"role-{number}" for number in range(8)]
    roles = {"roles": [{"name": name, "scopes": []} for name in names]}
    for owner, more in (("one", {}), ("two", {"description": "x"})):
        said = {"owner": owner, "roles": [role | more for role in roles["roles"]]}
        assert (await terminal("apply", said)).code == 0
    # It is the same plan in every process, and the maker's right comes with it.
    digests = {(await terminal("plan", {"owner": "three"} | roles, "--take-over")).json()["digest"] for _ in range(3)}
    answer = await admin.post("/v1/plan", json={"owner": "three"} | roles, params={"take_over": True})
    assert digests == {answer.json()["digest"]}
    assert (await terminal("apply", {"owner": "three"} | roles, "--take-over")).code == 0
    assert changes((await terminal("plan", {"owner": "three"})).json()) == [f"delete role {name}" for name in names]
    assert (await terminal("plan", {"owner": "one"})).json()["released"] == []
    # A row about what is gone keeps nobody from deleting what has its name now.
    person = {"users": [{"email": ADA}]}
    assert (await terminal("apply", {"owner": "one"} | person)).code == 0
    await terminal.run("delete-user", ADA, "--yes")
    assert (await terminal("apply", {"owner": "two", "roles": []} | person)).code == 0
    assert f"delete user {ADA}" in changes((await terminal("plan", {"owner": "two"})).json())


async def test_every_key_of_a_name_ends_with_it(
    terminal: Terminal, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    """After rotations, whoever did them; and only those that the state has made, or what they have become."""
    # A role and an account of one name are two things.
    keyless = {"owner": "x", "service_accounts": [{"name": "ci"}]}
    state = keyless | {"roles": [{"name": "ci", "scopes": ["users:read"]}]}
    state["service_accounts"] = [{"name": "ci", "roles": ["ci"], "api_keys": [{"name": "k", "scopes": ["users:read"]}]}]
    key = (await admin.post("/v1/apply", json=state)).json()["keys"][0]
    thief = await admin.post(f"/v1/api-keys/{key['id']}/rotate", headers={"Authorization": f"Bearer {key['key']}"})
    texts = [key["key"], thief.json()["key"]]
    other = (await admin.post("/v1/api-keys", json={"user": "ci", "name": "k"})).json()["key"]
    assert (await terminal("plan", state)).json()["changes"] == []
    gone = keyless | {"service_accounts": [{"name": "ci", "roles": []}]}
    assert changes((await terminal("plan", gone)).json()) == [
        "update service-account ci",
        "delete api-key ci/k",
        "delete role ci",
    ]
    done = await terminal("apply", gone, "--yes")
    assert done.code == 0, done.err
    asked = [await admin.get("/v1/users/me", headers={"Authorization": f"Bearer {text}"}) for text in [*texts, other]]
    assert [answer.status_code for answer in asked] == [401, 401, 200]
    # Nor does a state end what somebody else has made, unless it is told to.
    keyed = keyless | {"service_accounts": [{"name": "ci", "api_keys": [{"name": "k", "expires_in": 3600}]}]}
    refused = await terminal("apply", keyed, "--yes", "--show-keys", "-o", "json")
    assert (refused.code, json.loads(refused.err)["code"]) == (5, "owned-by-another")
    taken = await terminal("apply", keyed, "--yes", "--show-keys", "--take-over")
    assert (taken.code, changes(taken.json())) == (0, ["replace api-key ci/k"])
    me = await admin.get("/v1/users/me", headers={"Authorization": f"Bearer {other}"})
    assert me.status_code == 401


async def test_a_key_is_renewed_before_it_ends(terminal: Terminal, database: asyncpg.Connection) -> None:
    first = (await terminal("apply", STATE, "--show-keys")).json()["keys"][0]
    await database.execute(
        "UPDATE api_keys SET created_at = now() - interval '2500 s', expires_at = now() + interval '1100 s'"
    )
    assert changes((await terminal("plan", STATE)).json()) == ["renew api-key deploy/web site"]
    renewed = await terminal("apply", STATE, "--show-keys")
    assert renewed.code == 0, renewed.err
    found = await database.fetch("SELECT id, successor_id FROM api_keys WHERE expires_at > now() ORDER BY id")
    assert [str(row["id"]) for row in found] == [first["id"], renewed.json()["keys"][0]["id"]]
    assert found[0]["successor_id"] == found[1]["id"]
    assert (await terminal("plan", STATE)).code == 0


async def test_a_key_that_differs_is_replaced(
    terminal: Terminal, admin: httpx2.AsyncClient, database: asyncpg.Connection, tmp_path: Path
) -> None:
    kept = tmp_path / "keys.jsonl"
    refused = await terminal("apply", STATE)
    assert (refused.code, await database.fetchval("SELECT count(*) FROM users")) == (2, 1)
    assert "--keys-to" in refused.err
    first = await terminal("apply", STATE, "--keys-to", str(kept))
    assert (first.code, "apictl_key_" in first.out) == (0, False)
    wider = json.loads(json.dumps(STATE).replace('["10.0.0.0/8"]', '["10.0.0.0/8", "0.0.0.0/0"]'))
    answer = await admin.post("/v1/plan", json=wider)
    assert changes(answer.json()) == ["replace api-key deploy/web site"]
    assert (await terminal("apply", wider, "--yes", "--keys-to", str(kept))).code == 0
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    old, new = [json.loads(line) for line in kept.read_text().splitlines()]
    for key, status in ((old, 401), (new, 200)):
        me = await admin.get("/v1/users/me", headers={"Authorization": f"Bearer {key['key']}"})
        assert me.status_code == status
    # Rotated, it is still what the state says, in whatever order it says it; ended, it is made again.
    await terminal.run("rotate-api-key", new["id"])
    shuffled = json.loads(
        json.dumps(wider).replace('["10.0.0.0/8", "0.0.0.0/0"]', '["0.0.0.0/0", "10.1.0.0/8", "10.0.0.0/8"]')
    )
    assert (await terminal("plan", shuffled)).code == 0
    await database.execute("UPDATE api_keys SET expires_at = now() - interval '1 day'")
    assert changes((await terminal("plan", wider)).json()) == ["create api-key deploy/web site"]
    kept.chmod(0o640)
    open_file = await terminal("apply", wider, "--keys-to", str(kept))
    assert (open_file.code, "chmod 600" in open_file.err) == (2, True)
    assert changes((await terminal("plan", wider)).json()) == ["create api-key deploy/web site"]


async def test_keys_are_not_made_where_they_cannot_be_kept(
    apictl: Apictl, environment: dict[str, str], superuser: object, database: asyncpg.Connection, tmp_path: Path
) -> None:
    """Also not on a server, whose transaction is not ours."""
    del superuser
    state = {"owner": "x", "service_accounts": [{"name": "ci", "api_keys": [{"name": "k"}]}]}
    (tmp_path / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "theirs").touch(0o600)
    names = ["nothing/keys", "open/keys", "pipe", "link"]
    if os.geteuid() == 0:
        os.chown(tmp_path / "theirs", 65534, 65534)
        names.append("theirs")
    token = (await apictl("create-token", SUPERUSER, "--fields", "access_token", environment=environment)).out.strip()
    with serving("serve", environment=environment, start=apictl.start) as server:
        there = bare_environment(APICTL_TOKEN=token, APICTL_SERVER=server.url)
        for own in (environment, there):
            for name in names:
                line = ("apply", "-f", str(tmp_path / "state.json"), "--keys-to", str(tmp_path / name))
                refused = await apictl(*line, environment=own)
                assert (refused.code, str(tmp_path / name.partition("/")[0]) in refused.err) == (2, True), refused
        assert await database.fetchval("SELECT count(*) FROM api_keys") == 0
        line = ("apply", "-f", str(tmp_path / "state.json"), "--keys-to", str(tmp_path / "keys"))
        assert (await apictl(*line, environment=there)).code == 0
    assert json.loads((tmp_path / "keys").read_text())["user"] == "ci"
