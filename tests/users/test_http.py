"""Users over HTTP: what only this door has (entity tags, one's own account), and what a plain user may not."""

from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from api.users.models import User
from api.users.schemas import UserPage
from tests.conftest import PASSWORD, SUPERUSER, log_in


@pytest.fixture
async def ada(admin: httpx2.AsyncClient) -> dict[str, Any]:
    """A plain user."""
    answer = await admin.post("/v1/users", json={"email": "ada@example.com", "password": PASSWORD})
    assert answer.status_code == 201
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture
async def as_ada(client: httpx2.AsyncClient, ada: dict[str, Any]) -> httpx2.AsyncClient:
    """A client with a plain user's access token."""
    client.headers["Authorization"] = f"Bearer {(await log_in(client, ada['email']))['access_token']}"
    return client


async def test_a_created_user_has_an_address_and_a_tag(admin: httpx2.AsyncClient) -> None:
    created = await admin.post("/v1/users", json={"email": "ada@example.com", "full_name": "Ada"})
    assert created.headers["ETag"] == '"1"'
    shown = await admin.get(created.headers["Location"])
    assert shown.json() == created.json()
    again = await admin.post("/v1/users", params={"if_exists": "skip"}, json={"email": "ADA@example.com"})
    assert again.status_code == 200
    assert again.json() == created.json()


async def test_pages_meet_without_gaps_or_repeats(admin: httpx2.AsyncClient) -> None:
    emails = [f"user{number:02}@example.com" for number in range(23)]
    for email in emails:
        assert (await admin.post("/v1/users", json={"email": email})).status_code == 201
    for sort in ("created_at", "-created_at", "updated_at", "-updated_at", "email", "-email"):
        seen: list[str] = []
        query: dict[str, Any] = {"sort": sort, "limit": 5}
        for _ in range(10):
            page = (await admin.get("/v1/users", params=query)).json()
            seen += [user["email"] for user in page["items"]]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        everybody = [*emails, SUPERUSER] if sort == "email" else [SUPERUSER, *emails]
        if sort.startswith("-"):
            everybody = [*reversed(emails), SUPERUSER] if sort != "-email" else sorted([*emails, SUPERUSER])[::-1]
        assert seen == (sorted(everybody) if sort == "email" else everybody), sort


async def test_a_page_goes_on_where_it_ended_though_rows_came_and_went(admin: httpx2.AsyncClient) -> None:
    for name in ("b", "d", "f"):
        await admin.post("/v1/users", json={"email": f"{name}@example.com"})
    query: dict[str, Any] = {"sort": "email", "limit": 2}
    first = (await admin.get("/v1/users", params=query)).json()
    await admin.post("/v1/users", json={"email": "a@example.com"})
    await admin.delete("/v1/users/d@example.com")
    await admin.post("/v1/users", json={"email": "e@example.com"})
    rest = (await admin.get("/v1/users", params=query | {"limit": 9, "cursor": first["next_cursor"]})).json()
    assert [user["email"] for user in rest["items"]] == ["e@example.com", "f@example.com", SUPERUSER]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"search": "love"}, ["ada@example.com"]),
        ({"search": "ADA love"}, ["ada@example.com"]),
        ({"search": "example"}, ["ada@example.com", "grace@example.org", SUPERUSER]),
        ({"search": "example.org"}, ["grace@example.org"]),
        ({"search": "hopper' | 'x"}, []),
        ({"search": "!!! & |"}, []),
        ({"search": "%"}, []),
        ({"is_active": "false"}, ["grace@example.org"]),
        ({"is_superuser": "true"}, [SUPERUSER]),
        ({"is_superuser": "false", "is_active": "true"}, ["ada@example.com"]),
    ],
)
async def test_filters(admin: httpx2.AsyncClient, query: dict[str, str], found: list[str]) -> None:
    await admin.post("/v1/users", json={"email": "ada@example.com", "full_name": "Ada Lovelace"})
    await admin.post("/v1/users", json={"email": "grace@example.org", "full_name": "Grace Hopper"})
    await admin.post("/v1/users/grace@example.org/deactivate")
    answer = await admin.get("/v1/users", params=query | {"sort": "email"})
    assert [user["email"] for user in answer.json()["items"]] == found
    # Written without the schema, and as it would have written it.
    assert UserPage.model_validate_json(answer.content).model_dump_json().encode() == answer.content


async def test_one_s_own_account(as_ada: httpx2.AsyncClient, ada: dict[str, Any]) -> None:
    me = await as_ada.get("/v1/users/me")
    assert me.json()["id"] == ada["id"]
    assert me.json()["last_login_at"] is not None
    renamed = await as_ada.patch("/v1/users/me", json={"full_name": "Ada"}, headers={"If-Match": '"1"'})
    assert (renamed.json()["full_name"], renamed.json()["version"]) == ("Ada", 2)
    stale = await as_ada.patch("/v1/users/me", json={"full_name": "A."}, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale-version")
    assert (await as_ada.get(f"/v1/users/{ada['id']}")).status_code == 200


async def test_changing_one_s_password_ends_the_other_sessions_only(
    as_ada: httpx2.AsyncClient, ada: dict[str, Any]
) -> None:
    other = (await log_in(as_ada, ada["email"]))["access_token"]
    new = "five more unrelated words here"
    wrong = await as_ada.put("/v1/users/me/password", json={"current_password": new, "new_password": new})
    assert (wrong.status_code, wrong.json()["code"]) == (403, "wrong-password")
    changed = await as_ada.put("/v1/users/me/password", json={"current_password": PASSWORD, "new_password": new})
    assert changed.status_code == 200
    assert (await as_ada.get("/v1/users/me")).status_code == 200
    assert (await as_ada.get("/v1/users/me", headers={"Authorization": f"Bearer {other}"})).status_code == 401
    await log_in(as_ada, ada["email"], new)


FORBIDDEN = [
    ("GET", "/v1/users", None),
    ("POST", "/v1/users", {"email": "eve@example.com"}),
    ("PATCH", f"/v1/users/{SUPERUSER}", {"full_name": "x"}),
    ("PATCH", "/v1/users/ada@example.com", {"email": SUPERUSER}),
    ("PUT", f"/v1/users/{SUPERUSER}/password", {"password": PASSWORD}),
    ("POST", "/v1/users/ada@example.com/promote", None),
    ("POST", f"/v1/users/{SUPERUSER}/demote", None),
    ("POST", f"/v1/users/{SUPERUSER}/deactivate", None),
    ("POST", "/v1/users/ada@example.com/activate", None),
    ("DELETE", f"/v1/users/{SUPERUSER}", None),
    ("DELETE", "/v1/users/ada@example.com", None),
    ("POST", "/v1/tokens", {"user": SUPERUSER}),
    ("POST", "/v1/tokens", {"user": "ada@example.com"}),
    ("GET", "/v1/migrations", None),
    ("POST", "/v1/migrations/upgrade", None),
]


async def test_what_a_plain_user_may_not_do_is_refused(
    as_ada: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    before = await database.fetch("SELECT * FROM users ORDER BY id")
    for method, path, body in FORBIDDEN:
        answer = await as_ada.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope"), (method, path)
    assert await database.fetch("SELECT * FROM users ORDER BY id") == before


async def test_what_a_plain_user_may_not_see_is_not_there(as_ada: httpx2.AsyncClient) -> None:
    hidden = await as_ada.get(f"/v1/users/{SUPERUSER}")
    missing = await as_ada.get("/v1/users/none@example.com")
    assert hidden.status_code == missing.status_code == 404
    assert hidden.json()["code"] == missing.json()["code"] == "user-not-found"
    assert hidden.json()["title"] == missing.json()["title"]
    tokens = await as_ada.get("/v1/tokens", params={"user": SUPERUSER})
    assert (tokens.status_code, tokens.json()["code"]) == (404, "user-not-found")
    assert {token["user"] for token in (await as_ada.get("/v1/tokens")).json()["items"]} == {"ada@example.com"}


# Every column of the table that no body may name, and what somebody might hope for.
FIELDS = sorted({*User.__table__.columns.keys(), "scopes", "roles"} - {"email", "full_name"})
BODIES = [
    ("POST", "/v1/users", {"email": "eve@example.com"}),
    ("PATCH", "/v1/users/me", {"full_name": "Eve"}),
    ("PATCH", "/v1/users/ada@example.com", {"full_name": "Eve"}),
    ("PUT", "/v1/users/ada@example.com/password", {"password": PASSWORD}),
    ("PUT", "/v1/users/me/password", {"current_password": PASSWORD, "new_password": PASSWORD + "!"}),
]


async def test_no_body_of_any_route_takes_a_column_that_is_not_its_own(
    app: FastAPI, as_ada: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    """Row 17: every column of the table of users, at every route that takes JSON, from somebody without power."""
    document = app.openapi()
    before = await database.fetch("SELECT * FROM users ORDER BY id")
    tried = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" not in content or "$ref" not in content["application/json"]["schema"]:
                continue
            name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
            own = document["components"]["schemas"][name].get("properties", {})
            for field in {*User.__table__.columns.keys(), "scopes", "roles"} - set(own):
                address = path.replace("{user}", "ada@example.com")
                address = "/".join(str(uuid4()) if part.startswith("{") else part for part in address.split("/"))
                answer = await as_ada.request(method, address, json={field: True})
                assert answer.status_code == 422, (method, path, field, answer.text)
                assert field in {error["field"] for error in answer.json()["errors"]}, (path, field)
                tried += 1
    assert tried > 300
    assert await database.fetch("SELECT * FROM users ORDER BY id") == before


@pytest.mark.parametrize(("method", "path", "body"), BODIES)
async def test_no_body_sets_more_than_its_purpose(
    as_ada: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    database: asyncpg.Connection,
    method: str,
    path: str,
    body: dict[str, str],
) -> None:
    before = await database.fetch("SELECT * FROM users ORDER BY id")
    for field in FIELDS:
        for asker in (as_ada, admin):
            answer = await asker.request(method, path, json=body | {field: True})
            assert answer.status_code == 422, (field, answer.text)
            assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert await database.fetch("SELECT * FROM users ORDER BY id") == before
