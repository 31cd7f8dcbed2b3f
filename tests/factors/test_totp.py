"""A second factor, from its enrolment to the day when the phone is gone, as its owner and as an attacker try it."""

import asyncio
import json
import time
from typing import Final

import asyncpg
import httpx2
import pyotp
import pytest
from fastapi import FastAPI

from api.factors.codes import step_of
from tests.conftest import CHEAP, PASSWORD, SUPERUSER, log_in
from tests.support.doors import Door
from tests.support.postgres import somebody_waits

MFA: Final = "urn:apictl:params:oauth:grant-type:mfa"
PASSWORD_GRANT: Final = {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD}


async def ask(client: httpx2.AsyncClient, **form: str) -> httpx2.Response:
    return await client.post("/v1/auth/token", data=form)


async def mfa_token(client: httpx2.AsyncClient) -> str:
    answer = await ask(client, **PASSWORD_GRANT)
    assert (answer.status_code, answer.json()["error"]) == (400, "mfa_required"), answer.text
    token: str = answer.json()["mfa_token"]
    return token


class Phone:
    """An app that makes one-time passwords; its clock can be moved, so that nobody waits for the next one."""

    def __init__(self, secret: str, uri: str, factor_id: str, recovery_codes: list[str]) -> None:
        self._totp = pyotp.TOTP(secret)
        assert pyotp.parse_uri(uri).secret == secret
        self.id = factor_id
        self.recovery_codes = recovery_codes

    def otp(self, steps: int = 0) -> str:
        return self._totp.at(int(time.time()) + 30 * steps)


@pytest.fixture
async def phone(admin: httpx2.AsyncClient, database: asyncpg.Connection) -> Phone:
    """The superuser's, enrolled; the time step in which that was done counts as long past."""
    enrolled = await admin.post("/v1/users/me/factors/totp", json={"name": "phone", "current_password": PASSWORD})
    assert (enrolled.status_code, enrolled.headers["Cache-Control"]) == (201, "no-store")
    made = enrolled.json()
    otp = pyotp.TOTP(made["secret"]).now()
    confirmed = await admin.post(f"/v1/users/me/factors/{made['id']}/confirm", json={"otp": otp})
    assert confirmed.status_code == 200, confirmed.text
    await database.execute("UPDATE second_factors SET last_step = 0")
    return Phone(made["secret"], made["uri"], made["id"], confirmed.json()["recovery_codes"])


async def test_enrolling(admin: httpx2.AsyncClient, client: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    wrong = await admin.post("/v1/users/me/factors/totp", json={"current_password": "not it"})
    assert wrong.json()["code"] == "wrong-password"
    asked = {"current_password": PASSWORD}
    first = (await admin.post("/v1/users/me/factors/totp", json=asked)).json()
    # Nothing is asked of it before its owner has shown that it works.
    await log_in(client, SUPERUSER)
    second = (await admin.post("/v1/users/me/factors/totp", json=asked)).json()
    gone = await admin.post(f"/v1/users/me/factors/{first['id']}/confirm", json={"otp": "123456"})
    assert gone.json()["code"] == "factor-not-found"
    confirm = f"/v1/users/me/factors/{second['id']}/confirm"
    for otp in ("000000", "", "\uff11" * 6, "0" * 21):
        refused = await admin.post(confirm, json={"otp": otp})
        assert refused.status_code == 422
    otp = pyotp.TOTP(second["secret"]).now()
    codes = (await admin.post(confirm, json={"otp": f"{otp[:3]} {otp[3:]}"})).json()["recovery_codes"]
    assert len(set(codes)) == 10
    assert (await admin.post(confirm, json={"otp": otp})).json()["code"] == "factor-not-found"
    tables = [await database.fetch(f"SELECT * FROM {name}") for name in ("second_factors", "recovery_codes")]  # noqa: S608 - ours
    stored = str([dict(row) for rows in tables for row in rows])
    assert second["secret"] not in stored
    assert codes[0] not in stored


async def test_a_factor_that_is_not_confirmed_in_time_or_in_five_attempts_is_not_confirmed(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    for ending in ("attempts", "time"):
        made = (await admin.post("/v1/users/me/factors/totp", json={"current_password": PASSWORD})).json()
        confirm, otp = f"/v1/users/me/factors/{made['id']}/confirm", pyotp.TOTP(made["secret"]).now()
        if ending == "time":
            await database.execute("UPDATE second_factors SET created_at = now() - interval '11 minutes'")
        else:
            for _ in range(5):
                assert (await admin.post(confirm, json={"otp": "wrong"})).json()["code"] == "wrong-otp"
        assert (await admin.post(confirm, json={"otp": otp})).json()["code"] == "factor-not-found"
        await log_in(client, SUPERUSER)


async def test_of_many_guesses_at_once_five_are_looked_at(
    admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    made = (await admin.post("/v1/users/me/factors/totp", json={"current_password": PASSWORD})).json()
    confirm = f"/v1/users/me/factors/{made['id']}/confirm"
    async with database.transaction():
        await database.execute("SELECT FROM users FOR UPDATE")
        guesses = [asyncio.create_task(admin.post(confirm, json={"otp": "wrong"})) for _ in range(8)]
        await somebody_waits(database, number=8)
    codes = sorted([(await guess).json()["code"] for guess in guesses])
    assert codes == ["factor-not-found"] * 3 + ["wrong-otp"] * 5


async def test_one_more_factor_leaves_the_codes_on_paper_good(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, phone: Phone
) -> None:
    made = (await admin.post("/v1/users/me/factors/totp", json={"current_password": PASSWORD})).json()
    otp = pyotp.TOTP(made["secret"]).now()
    confirmed = await admin.post(f"/v1/users/me/factors/{made['id']}/confirm", json={"otp": otp})
    assert confirmed.json() == {"recovery_codes": []}
    form = {"grant_type": MFA, "mfa_token": await mfa_token(client), "recovery_code": phone.recovery_codes[0]}
    assert (await ask(client, **form)).is_success


@pytest.mark.parametrize("change", ["confirm", "remove", "recovery codes", "password", "token"])
async def test_a_session_that_ends_meanwhile_changes_nothing(
    admin: httpx2.AsyncClient, phone: Phone, database: asyncpg.Connection, change: str
) -> None:
    """Whoever ends a user's sessions holds the user; what waits for that finds out what it waited for."""
    made = (await admin.post("/v1/users/me/factors/totp", json={"current_password": PASSWORD})).json()
    method, path, body = {
        "confirm": ("POST", f"factors/{made['id']}/confirm", {"otp": pyotp.TOTP(made["secret"]).now()}),
        "remove": ("POST", f"factors/{phone.id}/remove", {"current_password": PASSWORD}),
        "recovery codes": ("POST", "recovery-codes", {"current_password": PASSWORD}),
        "token": ("POST", "/v1/tokens", {"user": SUPERUSER}),
        "password": ("PUT", "password", {"current_password": PASSWORD, "new_password": f"{PASSWORD} again"}),
    }[change]
    rows = "SELECT (SELECT array_agg(u.*::text) FROM users u), (SELECT array_agg(f.*::text) FROM second_factors f)"
    before = await database.fetchrow(rows)
    async with database.transaction():
        await database.execute("SELECT FROM users FOR UPDATE")
        waiting = asyncio.create_task(
            admin.request(method, path if path[0] == "/" else f"/v1/users/me/{path}", json=body)
        )
        await somebody_waits(database)
        await database.execute("UPDATE sessions SET revoked_at = now()")
    answer = await waiting
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid-token")
    assert await database.fetchrow(rows) == before


async def test_a_login_that_waits_holds_no_other_login(
    client: httpx2.AsyncClient, phone: Phone, database: asyncpg.Connection
) -> None:
    """Those that are over are removed on the way; whoever ends all of a user's need not wait for that."""
    await mfa_token(client)
    await database.execute("UPDATE pending_logins SET expires_at = now() - interval '1 second'")
    async with database.transaction():
        await database.execute("SELECT FROM users FOR UPDATE")
        waiting = asyncio.create_task(ask(client, **PASSWORD_GRANT))
        await somebody_waits(database)
        await database.execute("DELETE FROM pending_logins")
    assert (await waiting).json()["error"] == "mfa_required"
    await database.execute("UPDATE pending_logins SET expires_at = now() - interval '1 second'")
    await mfa_token(client)
    assert await database.fetchval("SELECT count(*) FROM pending_logins") == 1


async def test_a_deactivated_user_s_right_password_is_like_a_wrong_one(
    client: httpx2.AsyncClient, phone: Phone, database: asyncpg.Connection
) -> None:
    await database.execute("UPDATE users SET is_active = false")
    assert (await ask(client, **PASSWORD_GRANT)).json()["error"] == "invalid_grant"
    assert await database.fetchval("SELECT count(*) FROM pending_logins") == 0


async def test_an_outdated_hash_is_renewed_with_a_second_factor_too(
    client: httpx2.AsyncClient, phone: Phone, database: asyncpg.Connection
) -> None:
    outdated = CHEAP.handler("argon2").using(rounds=2, memory_cost=8).hash(PASSWORD)
    await database.execute("UPDATE users SET password_hash = $1", outdated)
    token = await mfa_token(client)
    assert await database.fetchval("SELECT password_hash FROM users") != outdated
    assert await database.fetchval("SELECT last_login_at FROM users") is None
    assert (await ask(client, grant_type=MFA, mfa_token=token, otp=phone.otp())).is_success


async def test_logging_in(client: httpx2.AsyncClient, phone: Phone, database: asyncpg.Connection) -> None:
    token = await mfa_token(client)
    before = await database.fetchval("SELECT count(*) FROM sessions")
    answer = await ask(client, grant_type=MFA, mfa_token=token, otp=phone.otp())
    assert answer.status_code == 200, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await client.get("/v1/users/me", headers=headers)).json()["email"] == SUPERUSER
    assert await database.fetchval("SELECT count(*) FROM sessions") == before + 1
    # Neither the login nor the password is good twice; nor is one from before that.
    for again in (token, await mfa_token(client)):
        for steps in (0, -1):
            refused = await ask(client, grant_type=MFA, mfa_token=again, otp=phone.otp(steps))
            assert refused.json()["error"] == "invalid_grant"
    # In one request, for scripts.
    assert (await ask(client, **PASSWORD_GRANT, otp=phone.otp(1), scope="users:read")).json()["scope"] == "users:read"


async def test_the_scope_is_the_one_that_was_asked_for_first(client: httpx2.AsyncClient, phone: Phone) -> None:
    token = (await ask(client, **PASSWORD_GRANT, scope="users:read")).json()["mfa_token"]
    answer = await ask(client, grant_type=MFA, mfa_token=token, otp=phone.otp(), scope="users:write")
    assert answer.json()["scope"] == "users:read"


async def test_a_scope_that_cannot_be_kept_is_refused(client: httpx2.AsyncClient, phone: Phone) -> None:
    """Not only when the database refuses it, whose failure no OAuth client understands."""
    del phone
    for scope in ("\x00", "users:read\x00", "users:read " * 100):
        answer = await ask(client, **PASSWORD_GRANT, scope=scope)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_what_was_shown_is_used_up_although_the_scope_is_refused(
    client: httpx2.AsyncClient, phone: Phone
) -> None:
    token = (await ask(client, **PASSWORD_GRANT, scope="nonsense")).json()["mfa_token"]
    answer = await ask(client, grant_type=MFA, mfa_token=token, otp=phone.otp())
    assert answer.json()["error"] == "invalid_scope"
    for again in (token, await mfa_token(client)):
        answer = await ask(client, grant_type=MFA, mfa_token=again, otp=phone.otp())
        assert answer.json()["error"] == "invalid_grant"


async def test_whoever_ends_a_user_s_logins_and_a_login_lock_in_one_order(
    client: httpx2.AsyncClient, phone: Phone, database: asyncpg.Connection
) -> None:
    token = await mfa_token(client)
    async with database.transaction():
        await database.execute("SELECT FROM users FOR UPDATE")
        waiting = asyncio.create_task(ask(client, grant_type=MFA, mfa_token=token, otp="000000"))
        await somebody_waits(database)
        await database.execute("DELETE FROM pending_logins")
    assert (await waiting).json()["error"] == "invalid_grant"


async def test_an_mfa_token_opens_nothing_else(client: httpx2.AsyncClient, phone: Phone) -> None:
    token = await mfa_token(client)
    assert (await client.get("/v1/users/me", headers={"Authorization": f"Bearer {token}"})).status_code == 401
    for form in (
        {"grant_type": "refresh_token", "refresh_token": token},
        {"grant_type": "client_credentials", "client_id": SUPERUSER, "client_secret": token},
        {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": token},
        {"grant_type": MFA, "mfa_token": token},
        {"grant_type": MFA, "mfa_token": token, "otp": "1", "recovery_code": "x"},
        {"grant_type": MFA, "mfa_token": token + "x", "otp": phone.otp()},
    ):
        assert (await ask(client, **form)).status_code in {400, 401}, form


@pytest.mark.parametrize("ending", ["password", "deactivated", "time"])
async def test_what_ends_a_login_that_waits(
    client: httpx2.AsyncClient, phone: Phone, database: asyncpg.Connection, ending: str, password_hash: str
) -> None:
    token = await mfa_token(client)
    await database.execute(
        {
            "password": "UPDATE users SET password_hash = password_hash || 'x'",
            "deactivated": "UPDATE users SET is_active = false",
            "time": "UPDATE pending_logins SET expires_at = now()",
        }[ending]
    )
    refused = await ask(client, grant_type=MFA, mfa_token=token, otp=phone.otp())
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


async def test_guessing(client: httpx2.AsyncClient, phone: Phone, database: asyncpg.Connection) -> None:
    """Five guesses a login; then each doubles the wait, over all logins; and nobody is locked out for good."""
    token = await mfa_token(client)
    wrong = f"{(int(phone.otp()) + 1) % 1_000_000:06}"
    for _ in range(5):
        assert (await ask(client, grant_type=MFA, mfa_token=token, otp=wrong)).json()["error"] == "invalid_grant"
    assert (await ask(client, grant_type=MFA, mfa_token=token, otp=phone.otp())).json()["error"] == "invalid_grant"
    other = await mfa_token(client)
    waits = await ask(client, grant_type=MFA, mfa_token=other, otp=phone.otp())
    assert (waits.status_code, waits.json()["code"], waits.headers["Retry-After"]) == (429, "too-many-guesses", "1")
    assert waits.json()["hint"] == "wait 1 second"
    # Nobody looked at it, so it was no attempt.
    assert await database.fetchval("SELECT array_agg(attempts ORDER BY attempts) FROM pending_logins") == [0, 5]
    await database.execute("UPDATE second_factors SET failures = 40")
    waits = await ask(client, grant_type=MFA, mfa_token=other, otp=phone.otp())
    assert waits.status_code == 429
    assert 890 < int(waits.headers["Retry-After"]) <= 900
    await database.execute("UPDATE second_factors SET failed_at = failed_at - interval '15 minutes'")
    assert (await ask(client, grant_type=MFA, mfa_token=other, otp=phone.otp())).status_code == 200
    assert await database.fetchval("SELECT failures FROM second_factors") == 0


async def test_twenty_guesses_at_once_are_one_login(
    client: httpx2.AsyncClient, phone: Phone, database: asyncpg.Connection
) -> None:
    tokens = [await mfa_token(client) for _ in range(4)]
    before = await database.fetchval("SELECT count(*) FROM sessions")
    otp = phone.otp()
    forms = [{"grant_type": MFA, "mfa_token": token, "otp": otp} for token in tokens for _ in range(5)]
    answers = await asyncio.gather(*(ask(client, **form) for form in forms))
    assert sum(answer.status_code == 200 for answer in answers) == 1
    assert {answer.status_code for answer in answers} <= {200, 400, 429}
    assert await database.fetchval("SELECT count(*) FROM sessions") == before + 1


async def test_recovery_codes(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, phone: Phone, database: asyncpg.Connection
) -> None:
    code = phone.recovery_codes[3]
    typed = code.upper().replace("-", " ")
    answer = await ask(client, grant_type=MFA, mfa_token=await mfa_token(client), recovery_code=typed)
    assert answer.status_code == 200, answer.text
    again = await ask(client, grant_type=MFA, mfa_token=await mfa_token(client), recovery_code=code)
    assert again.json()["error"] == "invalid_grant"
    assert (await admin.get("/v1/users/me/factors")).json()["recovery_codes"] == 9
    fresh = (await admin.post("/v1/users/me/recovery-codes", json={"current_password": PASSWORD})).json()
    for old in (phone.recovery_codes[0], "", "x"):
        form = {"grant_type": MFA, "mfa_token": await mfa_token(client), "recovery_code": old or "-"}
        assert (await ask(client, **form)).json()["error"] == "invalid_grant"
    token = await mfa_token(client)
    assert (await ask(client, grant_type=MFA, mfa_token=token, recovery_code=fresh["recovery_codes"][0])).is_success


async def test_removing_it(client: httpx2.AsyncClient, admin: httpx2.AsyncClient, phone: Phone) -> None:
    path = f"/v1/users/me/factors/{phone.id}/remove"
    assert (await admin.post(path, json={"current_password": "not it"})).json()["code"] == "wrong-password"
    left = (await admin.post(path, json={"current_password": PASSWORD})).json()
    assert (left["factors"], left["recovery_codes"]) == ([], 0)
    assert (await admin.post(path, json={"current_password": PASSWORD})).json()["code"] == "factor-not-found"
    await log_in(client, SUPERUSER)


async def test_a_narrowed_token_touches_none(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, phone: Phone
) -> None:
    narrowed = (await admin.post("/v1/tokens", json={"user": SUPERUSER, "scopes": ["users:read"]})).json()
    headers = {"Authorization": f"Bearer {narrowed['access_token']}"}
    for path, body in (
        ("/totp", {"current_password": PASSWORD}),
        (f"/{phone.id}/remove", {"current_password": PASSWORD}),
        (f"/{phone.id}/confirm", {"otp": "123456"}),
    ):
        answer = await client.post(f"/v1/users/me/factors{path}", json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope")
    # Nor does it look, unless that is what it is for.
    nothing = (await admin.post("/v1/tokens", json={"user": SUPERUSER, "scopes": []})).json()
    for token, status in ((narrowed, 200), (nothing, 403)):
        for whose in ("me", SUPERUSER):
            headers = {"Authorization": f"Bearer {token['access_token']}"}
            assert (await client.get(f"/v1/users/{whose}/factors", headers=headers)).status_code == status


async def test_an_administrator_helps(
    door: Door, client: httpx2.AsyncClient, phone: Phone, database: asyncpg.Connection
) -> None:
    ada = (await door.do("create-user", "ada@example.com", secret=PASSWORD)).body["id"]
    for table in ("second_factors", "recovery_codes"):
        await database.execute(f"UPDATE {table} SET user_id = $1", ada)  # noqa: S608 - ours
    shown = (await door.do("list-factors", "ada@example.com")).body
    assert [(factor["kind"], factor["name"]) for factor in shown["factors"]] == [("totp", "phone")]
    assert shown["recovery_codes"] == 10
    for verb in ("list-factors", "reset-factors"):
        assert (await door.do(verb, "nobody@example.com")).code == "user-not-found"
    for _ in range(2):
        left = (await door.do("reset-factors", "ada@example.com")).body
        assert (left["factors"], left["recovery_codes"]) == ([], 0)
    await log_in(client, "ada@example.com")
    entries = await database.fetch(
        "SELECT action, detail FROM audit_entries WHERE action LIKE 'user.%factor%' ORDER BY at, id"
    )
    assert [(entry["action"], json.loads(entry["detail"])) for entry in entries] == [
        ("user.add_factor", {"kind": "totp", "factor": phone.id}),
        ("user.reset_factors", {"removed": 1}),
    ]


async def test_nobody_helps_themself(admin: httpx2.AsyncClient, client: httpx2.AsyncClient, phone: Phone) -> None:
    """Whoever has found an open session, or a key, has not got the password."""
    key = (await admin.post("/v1/api-keys", json={"user": SUPERUSER, "name": "x"})).json()["key"]
    for headers in (dict(admin.headers), {"Authorization": f"Bearer {key}"}):
        for method, path, body in (
            ("DELETE", f"/v1/users/{SUPERUSER}/factors", None),
            ("PUT", f"/v1/users/{SUPERUSER}/password", {"password": f"{PASSWORD} again"}),
        ):
            answer = await client.request(method, path, json=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope"), path
    assert (await ask(client, **PASSWORD_GRANT)).json()["error"] == "mfa_required"


async def test_another_secret_key(app: FastAPI, client: httpx2.AsyncClient, phone: Phone) -> None:
    """What cannot be opened is never right; a recovery code is."""
    app.state.keys.sealing = b"f" * 32
    refused = await ask(client, grant_type=MFA, mfa_token=await mfa_token(client), otp=phone.otp())
    assert refused.json()["error"] == "invalid_grant"
    token = await mfa_token(client)
    assert (await ask(client, grant_type=MFA, mfa_token=token, recovery_code=phone.recovery_codes[0])).is_success


def test_which_step() -> None:
    """One before and one after, for clocks differ (RFC 6238, section 5.2)."""
    secret = pyotp.random_base32()
    now = 1_111_111_109.0
    for steps, expected in ((-2, None), (-1, -1), (0, 0), (1, 1), (2, None)):
        otp = pyotp.TOTP(secret).at(int(now) + 30 * steps)
        found = step_of(secret, otp, now=now)
        assert found == (None if expected is None else int(now) // 30 + expected)
