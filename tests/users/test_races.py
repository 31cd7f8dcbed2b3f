"""What many do at once: the database decides, once."""

import asyncio

import asyncpg
import httpx2

from api.config import Settings
from api.core.actor import Actor
from api.core.errors import ApictlError
from api.core.runtime import Runtime
from api.signing_keys.ring import fresh
from api.tokens.keys import Keys
from api.tokens.schemas import TokenCreate
from api.tokens.service import TokenService
from api.users.models import User
from api.users.schemas import UserCreate
from api.users.service import UserService
from tests.conftest import PASSWORD, SUPERUSER
from tests.support.cases import cases
from tests.support.processes import Apictl


async def test_a_hundred_creates_of_one_address_leave_one_row(
    admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    spellings = ["ada@example.com", "ADA@example.com", "Ada@EXAMPLE.com", "ada@\uff45xample.com"] * 25
    answers = await asyncio.gather(*(admin.post("/v1/users", json={"email": name}) for name in spellings))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 99
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"email-taken"}
    assert await database.fetchval("SELECT count(*) FROM users WHERE email = 'ada@example.com'") == 1


async def test_twenty_terminals_with_skip_all_succeed_and_one_changes(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    line = ("create-user", "ada@example.com", "--no-password", "--if-exists", "skip", "-o", "json")
    ended = await asyncio.gather(*(apictl(*line, environment=environment) for _ in range(20)))
    assert [one.code for one in ended] == [0] * 20
    assert sorted(one.json()["changed"] for one in ended) == [False] * 19 + [True]
    assert await database.fetchval("SELECT count(*) FROM users") == 1


async def test_fifty_first_superusers_at_once_are_one(runtime: Runtime, database: asyncpg.Connection) -> None:
    async def create(number: int) -> bool:
        async with runtime.transaction() as session:
            users = UserService(session, Actor.operator("tests"), runtime.passwords)
            return await users.create_first_superuser(UserCreate(email=f"root{number}@example.com")) is not None

    assert sum(await asyncio.gather(*(create(number) for number in range(50)))) == 1
    assert await database.fetchval("SELECT count(*) FROM users") == 1


async def test_the_last_two_superusers_cannot_both_be_demoted(
    runtime: Runtime, superuser: User, database: asyncpg.Connection
) -> None:
    async def act(verb: str, email: str) -> str:
        try:
            async with runtime.transaction() as session:
                users = UserService(session, Actor.operator("tests"), runtime.passwords)
                await getattr(users, verb)(email)
        except ApictlError as error:
            return error.code
        return "done"

    async with runtime.transaction() as session:
        users = UserService(session, Actor.operator("tests"), runtime.passwords)
        await users.create_user(UserCreate(email="second@example.com"), is_superuser=True)
    for first, second in [("demote_user", "deactivate_user"), ("delete_user", "demote_user")] * cases(500):
        outcomes = await asyncio.gather(act(first, SUPERUSER), act(second, "second@example.com"))
        assert sorted(outcomes) == ["done", "last-superuser"]
        assert await database.fetchval("SELECT count(*) FROM users WHERE is_superuser AND is_active") == 1
        await database.execute("UPDATE users SET is_superuser = true, is_active = true")
        for email in (SUPERUSER, "second@example.com"):
            await database.execute(
                "INSERT INTO users (id, email, is_superuser) VALUES (gen_random_uuid(), $1, true) "
                "ON CONFLICT DO NOTHING",
                email,
            )


async def test_a_token_made_while_its_owner_is_deactivated_does_not_live(
    runtime: Runtime, superuser: User, settings: Settings, database: asyncpg.Connection
) -> None:
    """Neither order leaves a live session behind: the deactivation ends it, or it is refused."""
    keys = await fresh(Keys.load(settings), runtime)
    operator = Actor.operator("tests")

    async def issue() -> str:
        try:
            async with runtime.transaction() as session:
                await TokenService(session, operator, settings).create_token(TokenCreate(user="ada@example.com"), keys)
        except ApictlError as error:
            return error.code
        return "issued"

    async def deactivate() -> None:
        async with runtime.transaction() as session:
            await UserService(session, operator, runtime.passwords).deactivate_user("ada@example.com")

    for _ in range(25):
        await database.execute("DELETE FROM users WHERE email = 'ada@example.com'")
        async with runtime.transaction() as session:
            await UserService(session, operator, runtime.passwords).create_user(UserCreate(email="ada@example.com"))
        outcome, _ = await asyncio.gather(issue(), deactivate())
        assert outcome in {"issued", "user-inactive"}
        assert await database.fetchval("SELECT count(*) FROM sessions WHERE revoked_at IS NULL") == 0


async def test_two_updates_from_one_version_lose_none(admin: httpx2.AsyncClient) -> None:
    await admin.post("/v1/users", json={"email": "ada@example.com"})
    answers = await asyncio.gather(
        *(
            admin.patch("/v1/users/ada@example.com", json={"full_name": name}, headers={"If-Match": '"1"'})
            for name in ("Ada King", "Ada Byron", "Ada Lovelace")
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412]
    won = next(answer for answer in answers if answer.status_code == 200)
    shown = await admin.get("/v1/users/ada@example.com")
    assert shown.json()["full_name"] == won.json()["full_name"]
    assert shown.headers["ETag"] == won.headers["ETag"] == '"2"'


async def test_a_password_set_while_it_is_verified_wins(
    client: httpx2.AsyncClient, superuser: User, runtime: Runtime, database: asyncpg.Connection
) -> None:
    form = {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD}
    verify = runtime.passwords.__class__.verify

    async def slowly(passwords: object, password: str, stored: str | None) -> object:
        verified = await verify(passwords, password, stored)  # type: ignore[arg-type]
        await database.execute("UPDATE users SET password_hash = 'changed meanwhile'")
        return verified

    runtime.passwords.__class__.verify = slowly  # type: ignore[assignment,method-assign]
    try:
        answer = await client.post("/v1/auth/token", data=form)
    finally:
        runtime.passwords.__class__.verify = verify  # type: ignore[method-assign]
    assert answer.json()["error"] == "invalid_grant"
    assert await database.fetchval("SELECT count(*) FROM sessions") == 0
