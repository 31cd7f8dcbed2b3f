"""In which order, and of which key, so that what is planned can be done, and is done once."""

import json
from typing import Final

import asyncpg

from tests.state.states import ADA, BOB, Terminal, changes, machine

ROTATED: Final = "UPDATE api_keys SET created_at = now() - interval '2500 s', expires_at = now() + interval '1100 s'"


async def test_a_rotated_key_without_its_successor_is_replaced(
    terminal: Terminal, database: asyncpg.Connection
) -> None:
    key = (await terminal("apply", machine("x"), "--show-keys")).json()["keys"][0]["id"]
    successor = (await terminal.run("rotate-api-key", key, "-o", "json")).json()["id"]
    await terminal.run("revoke-api-key", successor)
    # Its export is a state to which nothing is to be done; as long as it lives.
    exported = (await terminal.run("export-state", "--owner", "x")).out
    assert (await terminal("plan", exported)).json()["changes"] == []
    await database.execute(ROTATED)
    done = await terminal("apply", machine("x"), "--show-keys", "--yes")
    assert changes(done.json()) == ["replace api-key ci/k"]
    assert (await terminal("plan", machine("x"))).code == 0


async def test_an_export_has_the_owners_keys(terminal: Terminal) -> None:
    assert (await terminal("apply", machine("x"), "--show-keys")).code == 0
    await terminal.run("create-api-key", "ci", "--name", "k")
    exported = (await terminal.run("export-state", "--owner", "x")).out
    assert (await terminal("plan", exported)).json()["changes"] == []


async def test_a_key_that_is_taken_over_when_it_ends_soon_is_renewed(
    terminal: Terminal, database: asyncpg.Connection
) -> None:
    assert (await terminal("apply", machine("b"), "--show-keys")).code == 0
    await database.execute(ROTATED)
    done = await terminal("apply", machine("a"), "--take-over", "--show-keys")
    assert changes(done.json()) == ["renew api-key ci/k"]
    assert (await terminal("plan", machine("a"))).code == 0
    # Replaced, nothing of it is left to who had it.
    assert (await terminal("apply", machine("c", expires_in=60), "--take-over", "--show-keys", "--yes")).code == 0
    assert [row["owner"] for row in await database.fetch("SELECT DISTINCT owner FROM ownerships")] == ["c"]


async def test_keys_are_made_of_those_who_may_less_afterwards(terminal: Terminal) -> None:
    await terminal.run("create-user", ADA, "--no-password")
    await terminal.run("create-user", BOB, "--no-password")
    await terminal.run("promote-user", BOB)
    await terminal.run("deactivate-user", BOB)
    key = {"name": "k", "scopes": ["users:read"]}
    state = {
        "owner": "x",
        "roles": [{"name": "r", "scopes": ["users:read"]}],
        "users": [
            {"email": ADA, "is_active": False, "roles": ["r"], "api_keys": [key]},
            {"email": BOB, "is_active": True, "is_superuser": False, "roles": ["r"], "api_keys": [key]},
        ],
    }
    done = await terminal("apply", state, "--show-keys")
    assert done.code == 0, done.err
    assert (await terminal("plan", state)).code == 0


async def test_a_role_that_somebody_has_does_not_end(terminal: Terminal) -> None:
    role = {"roles": [{"name": "r", "scopes": []}]}
    assert (await terminal("apply", {"owner": "x", "users": [{"email": ADA, "roles": ["r"]}]} | role)).code == 0
    silent = json.dumps({"owner": "x", "users": [{"email": ADA}]}, indent=1)
    refused = await terminal("plan", silent)
    what = f"users.0: -, line 4, column 3: {ADA} has r, which ends, and the state does not say their roles"
    assert (refused.code, refused.err.splitlines()[0]) == (6, f"error: {what}")
    said = {"owner": "x", "users": [{"email": ADA, "roles": []}]}
    assert (await terminal("apply", said, "--yes")).code == 0


async def test_what_waits_for_its_account_is_not_said_to_be_so(terminal: Terminal) -> None:
    state = {"owner": "x", "users": [{"email": ADA, "api_keys": [{"name": "k"}]}]}
    assert (await terminal("apply", state, "--show-keys")).code == 0
    await terminal.run("deactivate-user", ADA)
    wider = json.loads(json.dumps(state).replace('"name": "k"', '"name": "k", "expires_in": null'))
    assert (await terminal("apply", wider)).json()["changes"] == []
    await terminal.run("activate-user", ADA)
    (change,) = (await terminal("plan", wider)).json()["changes"]
    assert (change["action"], change["fields"][0]["is_drift"]) == ("replace", False)
