"""What a state has set is known by its id: nobody is mistaken for another who is renamed, or takes a name."""

import json
from typing import Any

import asyncpg
import httpx2

from tests.conftest import SUPERUSER
from tests.state.states import ADA, BOB, Terminal, changes

KEYED = {"email": ADA, "full_name": "Ada", "api_keys": [{"name": "k"}]}
EVE = "eve@example.com"


def users(*emails: str, owner: str = "x", **fields: Any) -> dict[str, Any]:
    """Return a state with these people."""
    return {"owner": owner, "users": [{"email": email} | fields for email in emails]}


async def refused(terminal: Terminal, state: dict[str, Any], *options: str) -> tuple[int, str, str, str]:
    """Return how a plan was refused: the exit code, the code, the field and its code."""
    ended = await terminal("plan", state, "-o", "json", *options)
    problem = json.loads(ended.err)
    return ended.code, problem["code"], problem["errors"][0]["field"], problem["errors"][0]["code"]


async def test_whoever_is_renamed_is_named_so_in_the_file(
    terminal: Terminal, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    state = {"owner": "x", "users": [KEYED]}
    assert (await terminal("apply", state, "--show-keys")).code == 0
    made = await database.fetch("SELECT id FROM users ORDER BY id")
    await terminal.run("update-user", ADA, "--email", BOB)
    # Neither made again nor renamed back, whatever one says.
    for options in ((), ("--take-over",)):
        assert await refused(terminal, state, *options) == (5, "owned-by-another", "users.0", "renamed")
    told = await terminal("apply", json.dumps(state, indent=1), "--show-keys")
    assert told.err.splitlines() == [
        f"error: users.0: -, line 4, column 3: user {ADA} is {BOB} by now",
        f"field: users.0: -, line 4, column 3: user {ADA} is {BOB} by now",
        f"field: users.0.api_keys.0: -, line 8, column 5: api-key {ADA}/k is {BOB}/k by now",
        "hint: name it so in the state, or rename it back",
    ]
    answer = await admin.post("/v1/apply", json=state)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (
        409,
        ["users.0", "users.0.api_keys.0"],
    )
    # Left out, they end by the names that they have.
    gone = [f"delete api-key {BOB}/k", f"delete user {BOB}"]
    assert changes((await terminal("plan", {"owner": "x"})).json()) == gone
    # The file follows, with more that is new: still the same ones, and theirs.
    keys = [{"name": "k"}, {"name": "another"}]
    renamed = {"owner": "x", "users": [KEYED | {"email": BOB, "is_active": False, "api_keys": keys}]}
    done = await terminal("apply", renamed, "--show-keys")
    assert changes(done.json()) == [f"update user {BOB}", f"create api-key {BOB}/another"]
    assert (await terminal("plan", renamed)).code == 0
    names = await database.fetch("SELECT name FROM ownerships ORDER BY name")
    assert [row["name"] for row in names] == [BOB, f"{BOB}/another", f"{BOB}/k"]
    assert changes((await terminal("plan", {"owner": "x"})).json()) == [f"delete api-key {BOB}/another", *gone]
    # Or they are renamed back.
    await terminal.run("update-user", BOB, "--email", ADA)
    assert (await terminal("plan", {"owner": "x", "users": [KEYED | {"api_keys": keys}]})).code == 0
    assert await database.fetch("SELECT id FROM users ORDER BY id") == made


async def test_old_and_new_address_are_two(terminal: Terminal, database: asyncpg.Connection) -> None:
    assert (await terminal("apply", {"owner": "x", "users": [KEYED]}, "--show-keys")).code == 0
    await terminal.run("update-user", ADA, "--email", BOB)
    renamed = await database.fetchval("SELECT id FROM users WHERE email = $1", BOB)
    both = {"owner": "x", "users": [KEYED, {"email": BOB}]}
    done = await terminal("apply", both, "--show-keys", "--yes")
    # The key of before is left out; the one of her successor is new.
    assert changes(done.json()) == [f"create user {ADA}", f"create api-key {ADA}/k", f"delete api-key {BOB}/k"]
    again = await terminal("apply", both, "--show-keys", "--yes")
    assert (again.code, again.json()["changes"], again.json()["changed"]) == (0, [], False)
    assert await database.fetchval("SELECT id FROM users WHERE email = $1", BOB) == renamed
    gone = [f"delete api-key {ADA}/k", f"delete user {ADA}", f"delete user {BOB}"]
    assert changes((await terminal("plan", {"owner": "x"})).json()) == gone


async def test_whoever_takes_the_name_is_another(terminal: Terminal, database: asyncpg.Connection) -> None:
    state = {"owner": "x", "users": [KEYED]}
    assert (await terminal("apply", state, "--show-keys")).code == 0
    await terminal.run("update-user", ADA, "--email", BOB)
    await terminal.run("create-user", ADA, "--no-password", "--full-name", "Ada")
    for options in ((), ("--take-over",)):
        assert await refused(terminal, state, *options) == (5, "owned-by-another", "users.0", "renamed")
    assert changes((await terminal("apply", {"owner": "x"}, "--yes")).json()) == [
        f"delete api-key {BOB}/k",
        f"delete user {BOB}",
    ]
    assert await database.fetchval("SELECT email FROM users WHERE email <> $1", SUPERUSER) == ADA
    # Made again, with nothing that differs: no key is made for somebody else either.
    assert (await terminal("apply", {"owner": "x", "users": [KEYED | {"email": EVE}]}, "--show-keys")).code == 0
    await terminal.run("delete-user", EVE, "--yes")
    await terminal.run("create-user", EVE, "--no-password", "--full-name", "Ada")
    again = {"owner": "x", "users": [KEYED | {"email": EVE}]}
    assert await refused(terminal, again) == (5, "owned-by-another", "users.0", "another-one")
    assert await database.fetchval("SELECT count(*) FROM api_keys") == 0
    assert changes((await terminal("plan", again, "--take-over")).json()) == [f"create api-key {EVE}/k"]
    assert (await terminal("plan", {"owner": "x"})).json()["changes"] == []


async def test_a_renamed_one_takes_the_place_of_one_that_is_gone(terminal: Terminal) -> None:
    assert (await terminal("apply", users(ADA, BOB))).code == 0
    await terminal.run("delete-user", BOB, "--yes")
    await terminal.run("update-user", ADA, "--email", BOB)
    # Whether the file names her by the old address too, or not: what it says of him is not hers, unless it is said so.
    for state in (users(ADA, BOB), users(BOB)):
        assert await refused(terminal, state) == (
            (5, "owned-by-another", f"users.{len(state['users']) - 1}", "another-one")
        )
    assert (await terminal("apply", users(BOB), "--take-over")).json()["changes"] == []
    assert (await terminal("plan", users(BOB))).code == 0
    assert changes((await terminal("apply", {"owner": "x"}, "--yes")).json()) == [f"delete user {BOB}"]


async def test_two_who_change_their_addresses_are_not_each_other(terminal: Terminal) -> None:
    both = {"owner": "x", "users": [{"email": ADA, "is_superuser": True}, {"email": BOB}]}
    assert (await terminal("apply", both)).code == 0
    for before, after in ((ADA, EVE), (BOB, ADA), (EVE, BOB)):
        await terminal.run("update-user", before, "--email", after)
    assert await refused(terminal, both) == (5, "owned-by-another", "users.0", "another-one")


async def test_two_owners_name_one_by_two_addresses(terminal: Terminal, database: asyncpg.Connection) -> None:
    assert (await terminal("apply", users(ADA, owner="one"))).code == 0
    await terminal.run("update-user", ADA, "--email", BOB)
    assert (await terminal("apply", users(BOB, owner="two", full_name="B"))).code == 0
    # The one that made it knows the old name only: what the other names is not deleted with it.
    assert (await terminal("plan", {"owner": "one"})).json()["changes"] == []
    otherwise = await terminal("plan", users(BOB, owner="one", full_name="A"), "-o", "json")
    assert (otherwise.code, "in the state of two" in otherwise.err) == (5, True)
    taken = (await terminal("apply", users(BOB, owner="three"), "--take-over")).json()["taken_over"]
    assert taken == [f"user {BOB} of one", f"user {BOB} of two"]
    assert await database.fetchval("SELECT string_agg(owner || name, ' ') FROM ownerships") == f"three{BOB}"
    assert changes((await terminal("plan", {"owner": "three"})).json()) == [f"delete user {BOB}"]


async def test_a_role_that_ends_is_taken_from_whom_the_state_lets_go(terminal: Terminal) -> None:
    """They were there before the state gave it to them, and stay; unless another state gives it to them too."""
    for email in (ADA, BOB):
        await terminal.run("create-user", email, "--no-password")
    role = {"name": "support", "scopes": []}
    gives = users(ADA, BOB, roles=["support"])
    assert (await terminal("apply", gives | {"roles": [role]})).code == 0
    gone = [f"update user {ADA}", f"update user {BOB}", "delete role support"]
    planned = (await terminal("plan", {"owner": "x"})).json()
    assert (changes(planned), planned["released"]) == (gone, [f"user {ADA}", f"user {BOB}"])
    assert (await terminal("apply", users(BOB, owner="y", roles=["support"]))).code == 0
    ended = await terminal("apply", {"owner": "x"}, "--yes", "-o", "json")
    assert (ended.code, json.loads(ended.err.splitlines()[-1])["code"]) == (5, "role-in-use")
    assert (await terminal("apply", {"owner": "y"})).code == 0
    done = await terminal("apply", {"owner": "x"}, "--yes")
    assert (done.code, changes(done.json())) == (0, gone), done.err


async def test_a_role_that_was_made_again_is_another(terminal: Terminal) -> None:
    role = {"roles": [{"name": "support", "scopes": []}]}
    assert (await terminal("apply", {"owner": "one"} | role)).code == 0
    await terminal.run("delete-role", "support", "--yes")
    await terminal.run("create-role", "support")
    # Nobody's: the state of the one that is gone ends without it.
    assert (await terminal("plan", {"owner": "one"})).json()["changes"] == []
    await terminal.run("delete-role", "support", "--yes")
    assert (await terminal("apply", {"owner": "two"} | role)).code == 0
    # Nor does what it says of that one keep this one.
    assert changes((await terminal("plan", {"owner": "two"})).json()) == ["delete role support"]
