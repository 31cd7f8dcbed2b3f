"""Reading the log: what each door shows, filtered and exported."""

import json
import stat
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2
from fastapi import FastAPI

from api.users.models import User
from tests.conftest import SUPERUSER, SUPERUSER_ID
from tests.core.test_hostile_input import TEXTS, invented, is_problem
from tests.support.cases import cases
from tests.support.doors import Door
from tests.support.processes import Apictl

KEYS: Final = {
    "id", "at", "actor", "actor_user_id", "api_key_id", "door", "action", "target", "target_id", "outcome", "detail",
    "request_id",
}  # fmt: skip


async def test_both_doors_show_and_find_what_was_done(door: Door) -> None:
    """Who, by which door, what, whom, when, in which request, with which outcome."""
    made = (await door.do("create-user", "ada@example.com", no_password=True)).body
    await door.do("update-user", "ada@example.com", full_name="Ada")
    await door.do("create-role", "support", scope="users:read")
    # Nothing is written down of what was refused for another reason than a scope.
    assert (await door.do("create-role", "support", scope="users:read")).code == "role-exists"
    listed = (await door.do("list-audit", limit=3)).body
    found = listed["items"]
    assert {tuple(sorted(one)) for one in found} == {tuple(sorted(KEYS))}
    assert [(one["action"], one["target"], one["outcome"], one["door"]) for one in found] == [
        ("role.create", "role", "done", door.name),
        ("user.update", "user", "done", door.name),
        ("user.create", "user", "done", door.name),
    ]
    assert [one["target_id"] for one in found] == [found[0]["target_id"], made["id"], made["id"]]
    assert found[1]["detail"] == {"full_name": "Ada"}
    if door.name == "http":
        assert {one["actor"] for one in found} == {SUPERUSER}
        assert {one["actor_user_id"] for one in found} == {str(SUPERUSER_ID)}
        assert all(found[n]["request_id"] != found[n + 1]["request_id"] for n in range(2))
        by = {"actor": SUPERUSER, "request_id": found[1]["request_id"]}
    else:
        assert all(one["actor"].startswith("operator:") and "@" in one["actor"] for one in found)
        assert [one["actor_user_id"] for one in found] == [None] * 3
        by = {"actor": found[1]["actor"]}
    for which, number in (
        (by | {"action": "user.update"}, 1),
        ({"action": "user.update"}, 1),
        ({"target": "role"}, 1),
        ({"target_id": made["id"]}, 2),
        ({"target_id": "ada@example.com"}, 2),
        ({"door": door.name, "action": "user.create"}, 1 if door.name == "http" else 2),
        # With the superuser, whom somebody has made before.
        ({"outcome": "done", "target": "user"}, 3),
        ({"outcome": "refused"}, 0),
        ({"since": found[1]["at"], "until": found[0]["at"]}, 1),
        ({"actor": "operator:nobody@nowhere"}, 0),
        ({"actor": made["id"]}, 0),
    ):
        shown = (await door.do("list-audit", **which)).body
        assert len(shown["items"]) == number, which
        assert sum(one in found for one in shown["items"]) >= number - 1, which
    rest = (await door.do("list-audit", limit=3, cursor=listed["next_cursor"])).body["items"]
    assert not [one for one in rest if one in found]
    assert (await door.do("list-audit", cursor="nonsense")).code == "bad-request"
    assert (await door.do("list-audit", target_id="x")).code == "user-not-found"
    for which in ({"action": "Nonsense"}, {"since": "x"}, {"until": "0001-01-01T00:00:00+14:00"}):
        assert (await door.do("list-audit", **which)).code == "invalid-input"


async def test_a_key_and_who_acts_as_somebody_are_named(
    apictl: Apictl, environment: dict[str, str], admin: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    key = (await admin.post("/v1/api-keys", json={"user": SUPERUSER, "name": "x", "scopes": ["users:write"]})).json()
    bearer = {"Authorization": f"Bearer {key['key']}"}
    assert (await client.post("/v1/users", headers=bearer, json={"email": "ada@example.com"})).status_code == 201
    as_csv = bearer | {"Content-Type": "text/csv"}
    await client.post("/v1/bulk/users", headers=as_csv, content="email\neve@example.com\n")
    line = ("create-user", "bob@example.com", "--no-password", "--as", SUPERUSER)
    own = environment | {"SUDO_USER": "alice", "GITHUB_RUN_ID": "4711"}
    assert (await apictl(*line, environment=own)).code == 0
    found = (await admin.get("/v1/audit", params={"actor": SUPERUSER, "action": "user.create"})).json()["items"]
    assert [(one["api_key_id"], one["actor_user_id"]) for one in found] == [
        (None, str(SUPERUSER_ID)),
        (key["id"], str(SUPERUSER_ID)),
        (key["id"], str(SUPERUSER_ID)),
    ]
    assert [one["actor"] for one in found[1:]] == [f"{SUPERUSER} key {key['id']}"] * 2
    name, _, rest = found[0]["actor"].partition("@")
    assert (name, rest.endswith(f" job 4711 as {SUPERUSER}")) == ("operator:alice", True)


async def test_whoever_is_deleted_is_found_by_their_id(admin: httpx2.AsyncClient, app: FastAPI) -> None:
    del app
    made = (await admin.post("/v1/users", json={"email": "ada@example.com"})).json()["id"]
    await admin.delete("/v1/users/ada@example.com")
    found = (await admin.get("/v1/audit", params={"target_id": made})).json()["items"]
    assert [one["action"] for one in found] == ["user.delete", "user.create"]


async def test_nobody_is_nobody_whatever_an_account_is_called(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    form = {"grant_type": "password", "username": SUPERUSER, "password": "wrong"}
    await client.post("/v1/auth/token", data=form)
    assert (await admin.post("/v1/service-accounts", json={"name": "nobody"})).status_code == 201
    found = (await admin.get("/v1/audit", params={"actor": "nobody"})).json()["items"]
    assert [one["outcome"] for one in found] == ["refused"]


async def test_a_table_for_people(apictl: Apictl, environment: dict[str, str], superuser: User) -> None:
    await apictl("create-user", "ada@example.com", "--no-password", environment=environment)
    shown = await apictl("list-audit", "--limit", "1", "-o", "table", environment=environment)
    heading, *rows = shown.out.splitlines()
    assert heading.split() == ["AT", "ACTOR", "ACTION", "OUTCOME", "DOOR", "REQUEST", "ID"]
    assert ("user.create" in shown.out, "done" in shown.out, bool(rows)) == (True, True, True)
    as_csv = await apictl("list-audit", "--limit", "1", "-o", "csv", environment=environment)
    assert set(as_csv.out.splitlines()[0].split(",")) == KEYS
    ids = await apictl("list-audit", "--all", "-o", "ids", environment=environment)
    assert len(ids.out.split()) == len(set(ids.out.split()))


HOSTILE: Final = [
    {"since": "1e400"}, {"since": "9999-12-31T23:59:59-14:00"}, {"until": "-9999999999999999"}, {"since": "NaN"},
    {"since": "infinity"}, {"target_id": "'"}, {"limit": "0"}, {"door": "window"}, {"outcome": "x"},
    {"cursor": "WyItbm90ZWRfYXQiLCAieCIsICJ4Il0"}, {"actor": "x" * 400},
]  # fmt: skip


async def test_a_number_is_no_time(admin: httpx2.AsyncClient) -> None:
    for text in ("0.5", "1700000000", "-1", "1e9"):
        for name in ("since", "until"):
            refused = await admin.get("/v1/audit", params={name: text})
            assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, name), text


async def test_hostile_filters(admin: httpx2.AsyncClient) -> None:
    for which in HOSTILE:
        for path in ("/v1/audit", "/v1/audit/export"):
            if path.endswith("export") and {"limit", "cursor"} & set(which):
                continue
            is_problem(await admin.get(path, params=which))
    for text in [*TEXTS, *invented(cases(60), seed=4)]:
        for name in ("actor", "action", "target", "request_id", "cursor", "since"):
            answer = await admin.get("/v1/audit", params={name: text.encode("utf-8", "replace")})
            assert answer.status_code < 500, (name, text)
    heads: list[Any] = [
        [{"lane": 1}], [{"lane": -1, "n": 1, "hash": "0" * 64}], [{"lane": 1, "n": 2**63, "hash": "0" * 64}],
        [{"lane": "1", "n": 1, "hash": "0" * 64}], [{"lane": 1, "n": 1, "hash": "x"}], "x", [None], [[]],
    ]  # fmt: skip
    for kept in heads:
        is_problem(await admin.post("/v1/audit/verification", json={"heads": kept}))


async def test_an_export_is_the_list_the_other_way_round(
    apictl: Apictl, environment: dict[str, str], admin: httpx2.AsyncClient, database: asyncpg.Connection, tmp_path: Path
) -> None:
    await database.execute(
        "INSERT INTO audit_entries (id, at, actor, door, action, target, detail, request_id) "
        "SELECT gen_random_uuid(), now() - (n % 50) * interval '1 s', 'x', 'cli', 'user.create', 'user', "
        "jsonb_build_object('n', n), '' FROM generate_series(1, 2500) n"
    )
    listed = await apictl("list-audit", "--all", "-o", "jsonl", environment=environment)
    shown = [json.loads(line) for line in listed.out.splitlines()]
    answer = await admin.get("/v1/audit/export")
    assert answer.headers["content-type"].startswith("application/jsonl")
    assert answer.headers["cache-control"] == "no-store"
    assert [json.loads(line) for line in answer.text.splitlines()] == shown[::-1]
    kept = tmp_path / "audit.jsonl"
    assert (await apictl("export-audit", "--to", str(kept), environment=environment)).code == 0
    assert kept.read_text() == answer.text
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    since = shown[1000]["at"]
    part = await apictl("export-audit", "--actor", "x", "--since", since, environment=environment)
    assert len(part.out.splitlines()) == len([one for one in shown if one["actor"] == "x" and one["at"] >= since])
    none = await apictl("export-audit", "--until", "2001-01-01", environment=environment)
    assert (none.code, none.out) == (0, "")
