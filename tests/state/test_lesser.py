"""What somebody who may apply states, and not everything, cannot make of them."""

import json
from typing import Any, Final

import httpx2
import pytest

from tests.state.states import ADA, BOB, KEYLESS, Terminal, changes, machine

POWERS: Final = ["users:read", "users:write", "roles:read", "roles:write", "api-keys:read"]


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


async def test_a_role_that_somebody_made_again_is_not_filled_up(
    terminal: Terminal, admin: httpx2.AsyncClient, lesser: dict[str, str]
) -> None:
    mighty = {"owner": "x", "roles": [{"name": "admin", "scopes": ["users:delete"]}]}
    assert (await terminal("apply", mighty)).code == 0
    await terminal.run("delete-role", "admin", "--yes")
    assert (await admin.post("/v1/roles", json={"name": "admin", "scopes": []}, headers=lesser)).status_code == 201
    refused = await terminal("apply", mighty, "-o", "json")
    assert (refused.code, json.loads(refused.err)["errors"][0]["code"]) == (5, "another-one")
    # Nor can they have the state say less of it, by which it would be theirs to say.
    less = mighty | {"roles": [{"name": "admin", "scopes": []}]}
    for how in ({}, {"take_over": True}):
        answer = await admin.post("/v1/apply", json=less, params=how, headers=lesser)
        assert answer.status_code == (403 if how else 409)
    assert changes((await terminal("plan", mighty, "--take-over")).json()) == ["update role admin"]


async def test_what_a_role_that_is_gone_gave_is_not_a_lesser_actors_to_let_go(
    terminal: Terminal, admin: httpx2.AsyncClient, lesser: dict[str, str]
) -> None:
    role = {"roles": [{"name": "mighty", "scopes": ["users:delete"]}]}
    people = {"owner": "x", "users": [{"email": ADA}, {"email": BOB, "roles": ["mighty"]}]}
    only_ada = {"owner": "x", "users": [{"email": ADA}]}
    # By the same state, of which they may then make one of its name; or by hand.
    assert (await terminal("apply", people | role)).code == 0
    for line in (("delete-user", BOB, "--yes"), ("delete-role", "mighty", "--yes")):
        await terminal.run(*line)
    answers = [await admin.post("/v1/apply", json=only_ada, headers=lesser)]
    assert (await admin.post("/v1/roles", json={"name": "mighty", "scopes": []}, headers=lesser)).status_code == 201
    answers.append(await admin.post("/v1/apply", json=only_ada, headers=lesser))
    # Also if it is another state that says what the role gives.
    assert (await terminal("apply", role | {"owner": "y"}, "--take-over")).code == 0
    assert (await terminal("apply", people, "--take-over")).code == 0
    for line in (("delete-user", BOB, "--yes"), ("delete-role", "mighty", "--yes")):
        await terminal.run(*line)
    assert (await admin.post("/v1/roles", json={"name": "mighty", "scopes": []}, headers=lesser)).status_code == 201
    answers.append(await admin.post("/v1/apply", json=only_ada, headers=lesser))
    assert (await terminal("apply", people, "--take-over")).code == 0
    for line in (("delete-user", BOB, "--yes"), ("delete-role", "mighty", "--yes")):
        await terminal.run(*line)
    answers.append(await admin.post("/v1/apply", json=only_ada, headers=lesser))
    assert [answer.status_code for answer in answers] == [403] * 4


async def test_nobody_has_others_delete_what_they_may_not(
    terminal: Terminal, admin: httpx2.AsyncClient, lesser: dict[str, str]
) -> None:
    people = {"users": [{"email": ADA}, {"email": BOB}]}
    assert (await terminal("apply", {"owner": "x", "users": [{"email": ADA}]})).code == 0
    assert (await terminal("apply", {"owner": "y", "users": [{"email": BOB}]})).code == 0
    taken = await admin.post("/v1/apply", json={"owner": "x"} | people, params={"take_over": True}, headers=lesser)
    assert (taken.status_code, taken.json()["code"]) == (403, "missing-scope")
    # What x made it may delete; and not by another name that somebody has given it, who may not.
    assert changes((await terminal("plan", {"owner": "x"})).json()) == [f"delete user {ADA}"]
    await admin.patch(f"/v1/users/{ADA}", json={"email": "carl@example.com"}, headers=lesser)
    moved = {"owner": "x", "users": [{"email": "carl@example.com"}]}
    assert (await admin.post("/v1/apply", json=moved, headers=lesser)).status_code == 200
    assert (await terminal("plan", {"owner": "x"})).json()["changes"] == []
    # Nor what one state has made, by having the other one name it too, and this one no longer.
    both = {"owner": "x", "users": [{"email": "carl@example.com"}, {"email": BOB}]}
    for state in (both, {"owner": "y"}):
        assert (await admin.post("/v1/apply", json=state, headers=lesser)).status_code == 200
    assert (await terminal("plan", {"owner": "x"})).json()["changes"] == []


async def test_a_lesser_actor_does_not_have_a_state_say_less(
    terminal: Terminal, admin: httpx2.AsyncClient, lesser: dict[str, str]
) -> None:
    await terminal.run("create-user", ADA, "--no-password")
    mighty = {"owner": "x", "users": [{"email": ADA, "is_superuser": True}]}
    assert (await terminal("apply", mighty)).code == 0
    await terminal.run("demote-user", ADA)
    # Nor nothing of her any more, nor another one.
    attempts: list[tuple[str, list[dict[str, str]], bool]] = [
        ("x", [{"email": ADA}], False),
        ("x", [], False),
        ("m", [{"email": ADA}], True),
    ]
    for owner, people, take_over in attempts:
        wish, how = {"owner": owner, "users": people}, {"take_over": take_over}
        less = await admin.post("/v1/apply", json=wish, params=how, headers=lesser)
        assert (less.status_code, less.json()["code"]) == (403, "missing-scope"), wish


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
