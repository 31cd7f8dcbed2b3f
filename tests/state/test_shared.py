"""What two states name, and what each of them may do about it."""

import asyncpg

from tests.state.states import ADA, KEYLESS, Terminal, changes, machine


async def test_what_one_makes_again_is_still_what_the_other_names(
    terminal: Terminal, database: asyncpg.Connection
) -> None:
    person = {"users": [{"email": ADA}], "roles": [{"name": "r", "scopes": []}]}
    assert (await terminal("apply", machine("b") | person, "--show-keys")).code == 0
    # One that was rotated, by whoever knows it by another id.
    key = await database.fetchval("SELECT id FROM api_keys")
    await terminal.run("rotate-api-key", str(key), "--overlap", "0", "--fields", "key")
    assert (await terminal("apply", machine("a") | person)).json()["changes"] == []
    for line in (("delete-user", ADA, "--yes"), ("delete-role", "r", "--yes")):
        await terminal.run(*line)
    await database.execute("UPDATE api_keys SET expires_at = now() - interval '1 s'")
    made = ["create role r", f"create user {ADA}", "create api-key ci/k"]
    assert changes((await terminal("apply", machine("a") | person, "--show-keys")).json()) == made
    assert (await terminal("plan", machine("b") | person)).code == 0
    # Nor is it deleted, and the one that still names it has it.
    assert (await terminal("apply", {"owner": "a"} | KEYLESS, "--yes")).json()["changes"] == []
    assert changes((await terminal("plan", {"owner": "b"} | KEYLESS)).json()) == [
        "delete api-key ci/k",
        f"delete user {ADA}",
        "delete role r",
    ]


async def test_a_rotated_key_that_is_taken_over_is_all_of_it(terminal: Terminal, database: asyncpg.Connection) -> None:
    key = (await terminal("apply", machine("b"), "--show-keys")).json()["keys"][0]["id"]
    successor = (await terminal.run("rotate-api-key", key, "-o", "json")).json()["id"]
    for options in ((), ("--take-over",)):
        assert (await terminal("apply", machine("a"), *options)).json()["changes"] == []
    await terminal.run("revoke-api-key", successor)
    gone = (await terminal("apply", {"owner": "a"} | KEYLESS, "--yes")).json()
    assert changes(gone) == ["delete api-key ci/k"]
    assert await database.fetchval("SELECT count(*) FROM api_keys WHERE revoked_at IS NULL") == 0


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
