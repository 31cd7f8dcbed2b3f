"""What two states name, and what each of them may do about it; and what a lesser actor cannot make of a state."""

import json
from typing import Any, Final

import asyncpg
import httpx2
import pytest

from tests.state.states import ADA, BOB, Terminal, changes

CI: Final = {"name": "ci", "api_keys": [{"name": "k", "expires_in": 3600}]}
KEYLESS: Final = {"service_accounts": [{"name": "ci"}]}
POWERS: Final = ["users:read", "users:write", "roles:read", "roles:write", "api-keys:read"]
ROTATED: Final = "UPDATE api_keys SET created_at = now() - interval '2500 s', expires_at = now() + interval '1100 s'"


def machine(owner: str, **terms: Any) -> dict[str, Any]:
    """Return a state with a service account and its key."""
    return {"owner": owner, "service_accounts": [CI | {"api_keys": [{"name": "k", "expires_in": 3600} | terms]}]}


@pytest.fixture
async def lesser(admin: httpx2.AsyncClient) -> dict[str, str]:
    """Headers of somebody who may apply states, and not everything."""
    await admin.post("/v1/service-accounts", json={"name": "lesser"})
    await admin.post("/v1/roles", json={"name": "applying", "scopes": POWERS})
    await admin.put("/v1/users/lesser/roles/applying")
    key = (await admin.post("/v1/api-keys", json={"user": "lesser", "name": "x", "scopes": POWERS})).json()["key"]
    return {"Authorization": f"Bearer {key}"}


async def test_a_lesser_actor_lets_nobody_be_taken_for_another(
    terminal: Terminal, admin: httpx2.AsyncClient, lesser: dict[str, str]
) -> None:
    people = {"owner": "x", "users": [{"email": ADA}, {"email": BOB, "is_superuser": True}]}
    assert (await terminal("apply", people)).code == 0
    await terminal.run("delete-user", BOB, "--yes")
    # Neither by forgetting who was meant, nor by making them, nor by taking over whom they have made.
    attempts: list[tuple[dict[str, Any], dict[str, bool]]] = [
        ({"users": [{"email": ADA}]}, {}),
        ({"users": [{"email": ADA}, {"email": BOB}]}, {}),
        ({"users": [{"email": ADA}, {"email": BOB}]}, {"take_over": True}),
    ]
    for number, (wish, how) in enumerate(attempts):
        if number == 2:
            made = await admin.post("/v1/users", json={"email": BOB}, headers=lesser)
            assert made.status_code == 201
        answer = await admin.post("/v1/apply", json={"owner": "x"} | wish, params=how, headers=lesser)
        assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope"), wish
    ended = await terminal("apply", people, "-o", "json")
    assert (ended.code, json.loads(ended.err)["errors"][0]["code"]) == (5, "another-one")


async def test_whom_a_lesser_actor_makes_again_gets_nothing_from_others(
    terminal: Terminal, admin: httpx2.AsyncClient, lesser: dict[str, str]
) -> None:
    theirs = {"owner": "m", "users": [{"email": ADA}]}
    assert (await admin.post("/v1/apply", json=theirs, headers=lesser)).status_code == 200
    mighty = {"owner": "b", "users": [{"email": ADA, "is_superuser": True}]}
    assert (await terminal("apply", mighty)).code == 0
    await terminal.run("delete-user", ADA, "--yes")
    taken = await admin.post("/v1/apply", json=theirs, params={"take_over": True}, headers=lesser)
    assert (taken.status_code, taken.json()["code"]) == (403, "missing-scope")
    assert (await admin.post("/v1/apply", json=theirs, headers=lesser)).json()["changes"][0]["action"] == "create"
    ended = await terminal("apply", mighty, "-o", "json")
    assert (ended.code, json.loads(ended.err)["errors"][0]["code"]) == (5, "another-one")


async def test_keys_are_owned_by_whoever_may_end_them(
    terminal: Terminal, admin: httpx2.AsyncClient, lesser: dict[str, str]
) -> None:
    assert (await terminal("apply", machine("a"), "--show-keys")).code == 0
    taken = await admin.post("/v1/apply", json=machine("m"), params={"take_over": True}, headers=lesser)
    assert (taken.status_code, taken.json()["code"]) == (403, "missing-scope")
    assert (await admin.post("/v1/apply", json=machine("m"), headers=lesser)).status_code == 200
    assert changes((await terminal("plan", {"owner": "a"} | KEYLESS)).json()) == ["delete api-key ci/k"]


async def test_what_one_makes_again_is_still_what_the_other_names(
    terminal: Terminal, database: asyncpg.Connection
) -> None:
    person = {"users": [{"email": ADA}]}
    for owner in ("a", "b"):
        assert (await terminal("apply", machine(owner) | person, "--show-keys")).code == 0
    await terminal.run("delete-user", ADA, "--yes")
    await database.execute("UPDATE api_keys SET expires_at = now() - interval '1 s'")
    made = [f"create user {ADA}", "create api-key ci/k"]
    assert changes((await terminal("apply", machine("a") | person, "--show-keys")).json()) == made
    assert (await terminal("plan", machine("b") | person)).code == 0
    # Nor is it deleted, and the one that still names it has it.
    assert (await terminal("apply", {"owner": "a"} | KEYLESS, "--yes")).json()["changes"] == []
    assert changes((await terminal("plan", {"owner": "b"} | KEYLESS)).json()) == [
        "delete api-key ci/k",
        f"delete user {ADA}",
    ]


async def test_what_is_made_again_and_taken_over_is_nobody_elses(terminal: Terminal) -> None:
    for owner in ("a", "b"):
        assert (await terminal("apply", {"owner": owner, "users": [{"email": ADA}]})).code == 0
    await terminal.run("delete-user", ADA, "--yes")
    taking = {"owner": "b", "users": [{"email": ADA}]}
    assert (await terminal("apply", taking, "--take-over")).json()["taken_over"] == [f"user {ADA} of a"]
    assert (await terminal("plan", taking, "--take-over")).code == 0


async def test_an_account_with_a_key_that_another_state_names_is_not_deleted(terminal: Terminal) -> None:
    assert (await terminal("apply", machine("b"), "--show-keys")).code == 0
    taken = (await terminal("apply", {"owner": "a"} | KEYLESS, "--take-over")).json()["taken_over"]
    assert taken == ["service-account ci of b"]
    left = (await terminal("plan", {"owner": "a"})).json()
    assert (left["changes"], left["released"]) == ([], ["service-account ci"])


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
