"""Passkeys, as their owner and as an attacker try them; in a real browser they are in tests/browser."""

import asyncio
import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import httpx2
import pyotp
import pytest
from fastapi import FastAPI

from api.factors import passkeys
from api.signing_keys.ring import fresh
from api.tokens import keys
from tests.conftest import PASSWORD, SUPERUSER
from tests.support.authenticator import USER_PRESENT, USER_VERIFIED, Authenticator, encoded
from tests.support.cases import cases
from tests.support.postgres import somebody_waits

MFA: Final = "urn:apictl:params:oauth:grant-type:mfa"
PASSKEY: Final = "urn:apictl:params:oauth:grant-type:passkey"
OWN: Final = "/v1/users/me/factors"


async def token(client: httpx2.AsyncClient, **form: str) -> httpx2.Response:
    return await client.post("/v1/auth/token", data=form)


async def options(client: httpx2.AsyncClient, **form: str) -> dict[str, Any]:
    answer = await client.post("/v1/auth/passkey", data=form)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store"), answer.text
    found: dict[str, Any] = answer.json()["options"]
    return found


async def log_in(client: httpx2.AsyncClient, credential: dict[str, Any], **form: str) -> httpx2.Response:
    return await token(client, grant_type=PASSKEY, credential=json.dumps(credential), **form)


async def mfa_token(client: httpx2.AsyncClient) -> str:
    answer = await token(client, grant_type="password", username=SUPERUSER, password=PASSWORD)
    assert answer.json()["error"] == "mfa_required", answer.text
    found: str = answer.json()["mfa_token"]
    return found


async def begun(admin: httpx2.AsyncClient, name: str = "laptop") -> dict[str, Any]:
    answer = await admin.post(f"{OWN}/passkey", json={"name": name, "current_password": PASSWORD})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store"), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def enrolled(admin: httpx2.AsyncClient, authenticator: Authenticator) -> httpx2.Response:
    made = await begun(admin)
    body = {"credential": authenticator.create(made["options"])}
    return await admin.post(f"{OWN}/{made['id']}/confirm", json=body)


@pytest.fixture
async def passkey(admin: httpx2.AsyncClient) -> Authenticator:
    """The superuser's, enrolled."""
    made = Authenticator()
    answer = await enrolled(admin, made)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["recovery_codes"]) == 10
    return made


async def test_it_logs_in_alone(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, passkey: Authenticator, database: asyncpg.Connection
) -> None:
    asked = await options(client)
    assert (asked["rpId"], asked["userVerification"], asked["allowCredentials"]) == ("localhost", "required", [])
    answer = await log_in(client, passkey.get(asked), scope="users:read")
    assert answer.status_code == 200, answer.text
    assert answer.json()["scope"] == "users:read"
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await client.get("/v1/users/me", headers=headers)).json()["email"] == SUPERUSER
    entry = await database.fetchval("SELECT detail FROM audit_entries WHERE action = 'session.login'")
    assert json.loads(entry)["by"] == "passkey"
    (listed,) = (await admin.get(OWN)).json()["factors"]
    assert (listed["kind"], listed["name"]) == ("passkey", "laptop")
    assert listed["last_used_at"] is not None


async def test_it_is_a_second_factor(client: httpx2.AsyncClient, passkey: Authenticator) -> None:
    waiting = await mfa_token(client)
    asked = await options(client, mfa_token=waiting)
    assert [one["id"] for one in asked["allowCredentials"]] == [encoded(passkey.id)]
    # The password was typed: an older security key, which asks for nothing but a touch, is enough.
    passkey.flags = USER_PRESENT
    proof = json.dumps(passkey.get(asked))
    assert (await token(client, grant_type=MFA, mfa_token=waiting, credential=proof)).status_code == 200
    assert (await token(client, grant_type=MFA, mfa_token=waiting, credential=proof)).status_code == 400
    unknown = await client.post("/v1/auth/passkey", data={"mfa_token": waiting})
    assert (unknown.status_code, unknown.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("ending", ["expires_at = now()", "attempts = 5"])
async def test_a_login_that_waits_no_more_has_no_challenge(
    client: httpx2.AsyncClient, passkey: Authenticator, database: asyncpg.Connection, ending: str
) -> None:
    waiting = await mfa_token(client)
    await database.execute(f"UPDATE pending_logins SET {ending}")  # noqa: S608 - ours
    refused = await client.post("/v1/auth/passkey", data={"mfa_token": waiting})
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


async def test_an_answer_is_good_once(
    client: httpx2.AsyncClient, passkey: Authenticator, database: asyncpg.Connection
) -> None:
    older, newer = await options(client), await options(client)
    logins = "SELECT last_login_at FROM users"
    answers = await asyncio.gather(*(log_in(client, passkey.get(newer)) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 19
    last = await database.fetchval(logins)
    for again in (newer, older):
        assert (await log_in(client, passkey.get(again))).json()["error"] == "invalid_grant"
    assert await database.fetchval(logins) == last is not None
    assert (await log_in(client, passkey.get(await options(client)))).status_code == 200


async def test_logging_in_while_factors_change_ends_in_an_answer(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, passkey: Authenticator
) -> None:
    """Whoever locks a user's rows does it in one order: none of these waits for another for ever."""
    for _ in range(5):
        asked = [await options(client) for _ in range(4)]
        waiting = [await mfa_token(client) for _ in range(2)]
        proofs = [json.dumps(passkey.get(await options(client, mfa_token=one))) for one in waiting]
        changes = [admin.post(f"{OWN}/totp", json={"current_password": PASSWORD}) for _ in range(3)]
        answers = await asyncio.gather(
            *(log_in(client, passkey.get(one)) for one in asked),
            *(
                token(client, grant_type=MFA, mfa_token=one, credential=proof)
                for one, proof in zip(waiting, proofs, strict=True)
            ),
            *changes,
        )
        assert {answer.status_code for answer in answers} <= {200, 201, 400}, [answer.text for answer in answers]
        assert [answer.status_code for answer in answers[-3:]] == [201] * 3


async def test_a_challenge_is_good_for_one_purpose(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, passkey: Authenticator
) -> None:
    first, second = await mfa_token(client), await mfa_token(client)
    for_first, alone = await options(client, mfa_token=first), await options(client)
    enrolment = (await begun(admin))["options"]
    for asked in (for_first, enrolment):
        assert (await log_in(client, passkey.get(asked))).status_code == 400
    for asked in (for_first, enrolment, alone):
        proof = json.dumps(passkey.get(asked))
        assert (await token(client, grant_type=MFA, mfa_token=second, credential=proof)).status_code == 400
    proof = json.dumps(passkey.get(for_first))
    assert (await token(client, grant_type=MFA, mfa_token=first, credential=proof)).status_code == 200
    made = await begun(admin)
    for asked in (for_first, alone, enrolment):
        body = {"credential": Authenticator().create(made["options"] | {"challenge": asked["challenge"]})}
        refused = await admin.post(f"{OWN}/{made['id']}/confirm", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "wrong-passkey")


def stamped(offset: float, key: bytes | None = None) -> Callable[[FastAPI], str]:
    """Return what makes a challenge of another time, or with another key."""
    return lambda app: encoded(
        passkeys.new_challenge(key or app.state.keys.challenges, passkeys.LOGIN, now=time.time() + offset)
    )


@pytest.mark.parametrize(
    ("lie", "value"),
    [
        ("origin", "http://localhost:8001"),
        ("origin", "https://localhost:8000"),
        ("origin", "http://127.0.0.1:8000"),
        ("rp_id", "evil.example"),
        ("cross_origin", True),
        ("flags", USER_PRESENT),
        ("flags", USER_VERIFIED),
        ("flags", 0),
        ("key", Authenticator().key),
        ("id", b"x" * 32),
        ("user_handle", bytes(16)),
        ("user_handle", None),
    ],
)
async def test_a_lie_is_refused(client: httpx2.AsyncClient, passkey: Authenticator, lie: str, value: Any) -> None:
    truth = getattr(passkey, lie)
    setattr(passkey, lie, value)
    refused = await log_in(client, passkey.get(await options(client)))
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    setattr(passkey, lie, truth)
    assert (await log_in(client, passkey.get(await options(client)))).status_code == 200


async def test_another_time_or_type_is_refused(
    app: FastAPI, client: httpx2.AsyncClient, passkey: Authenticator, database: asyncpg.Connection
) -> None:
    # Not because they are older than the passkey.
    await database.execute("UPDATE second_factors SET last_step = 0")
    for challenge in (stamped(-301), stamped(120), stamped(0, b"k" * 32), lambda _: "AAAA", lambda _: ""):
        assert (await log_in(client, passkey.get({"challenge": challenge(app)}))).status_code == 400
    assert (await log_in(client, passkey.get(await options(client), type="webauthn.create"))).status_code == 400
    assert (await log_in(client, passkey.get({"challenge": stamped(-290)(app)}))).status_code == 200


async def test_servers_whose_clocks_differ(
    app: FastAPI, client: httpx2.AsyncClient, admin: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 16: what one server has made, another takes whose clock is 45 seconds behind: the database's decides."""
    authenticator = Authenticator()
    monkeypatch.setattr(app.state.keys, "_clock_offset", timedelta(0))
    with monkeypatch.context() as patch:
        late = datetime.now(UTC) + timedelta(seconds=45)
        patch.setattr(keys, "datetime", Clock(late))
        await fresh(app.state.keys, app.state.runtime, since=time.monotonic())
        assert (await enrolled(admin, authenticator)).status_code == 200
    await fresh(app.state.keys, app.state.runtime, since=time.monotonic())
    assert (await log_in(client, authenticator.get(await options(client)))).status_code == 200


class Clock:
    """A clock that stands."""

    def __init__(self, shown: datetime) -> None:
        self._shown = shown

    def now(self, _: object = None) -> datetime:
        return self._shown


async def test_of_a_passkey_and_its_copy_at_once_one_logs_in(
    client: httpx2.AsyncClient, passkey: Authenticator, database: asyncpg.Connection
) -> None:
    """Both are right when they are looked at: it is the counter in the row that decides."""
    passkey.counter = 5
    proofs = [passkey.get(await options(client)) for _ in range(2)]
    async with database.transaction():
        await database.execute("SELECT FROM users FOR UPDATE")
        answers = []
        for number, proof in enumerate(proofs, start=1):
            # The older challenge first, which the newer one would have used up.
            answers.append(asyncio.create_task(log_in(client, proof)))
            await somebody_waits(database, number=number)
    assert sorted(answer.status_code for answer in await asyncio.gather(*answers)) == [200, 400]


async def test_an_answer_is_used_up_although_the_scope_is_refused(
    client: httpx2.AsyncClient, passkey: Authenticator
) -> None:
    proof = passkey.get(await options(client))
    assert (await log_in(client, proof, scope="nonsense")).json()["error"] == "invalid_scope"
    assert (await log_in(client, proof)).json()["error"] == "invalid_grant"


async def test_two_who_confirm_one_passkey_at_once(
    admin: httpx2.AsyncClient, as_ada: httpx2.AsyncClient, database: asyncpg.Connection, password_hash: str
) -> None:
    await database.execute("UPDATE users SET password_hash = $1", password_hash)
    authenticator, confirming = Authenticator(), []
    for client in (admin, as_ada):
        made = await begun(client)
        body = {"credential": authenticator.create(made["options"])}
        confirming.append(client.post(f"{OWN}/{made['id']}/confirm", json=body))
    answers = await asyncio.gather(*confirming)
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert {answer.json().get("code") for answer in answers} == {None, "passkey-exists"}


async def test_a_copy_is_found_out(client: httpx2.AsyncClient, passkey: Authenticator) -> None:
    for counter, expected in ((5, 200), (5, 400), (4, 400), (0, 400), (6, 200)):
        passkey.counter = counter
        assert (await log_in(client, passkey.get(await options(client)))).status_code == expected


async def test_somebody_else_s_is_refused(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, as_ada: httpx2.AsyncClient, passkey: Authenticator
) -> None:
    user = (await as_ada.get("/v1/users/me")).json()
    await admin.put(f"/v1/users/{user['id']}/password", json={"password": PASSWORD})
    waiting = await token(client, grant_type="password", username="ada@example.com", password=PASSWORD)
    ada = {"Authorization": f"Bearer {waiting.json()['access_token']}"}
    made = await client.post(f"{OWN}/passkey", json={"current_password": PASSWORD}, headers=ada)
    # The same authenticator cannot be two people's.
    body = {"credential": passkey.create(made.json()["options"])}
    refused = await client.post(f"{OWN}/{made.json()['id']}/confirm", json=body, headers=ada)
    assert (refused.status_code, refused.json()["code"]) == (409, "passkey-exists")
    hers = Authenticator()
    body = {"credential": hers.create(made.json()["options"])}
    assert (await client.post(f"{OWN}/{made.json()['id']}/confirm", json=body, headers=ada)).status_code == 200
    mine = await mfa_token(client)
    proof = json.dumps(hers.get(await options(client, mfa_token=mine)))
    assert (await token(client, grant_type=MFA, mfa_token=mine, credential=proof)).status_code == 400


async def test_what_ends_it(client: httpx2.AsyncClient, admin: httpx2.AsyncClient, passkey: Authenticator) -> None:
    other = Authenticator()
    assert (await enrolled(admin, other)).status_code == 200
    ids = [factor["id"] for factor in (await admin.get(OWN)).json()["factors"]]
    left = await admin.post(f"{OWN}/{ids[0]}/remove", json={"current_password": PASSWORD})
    assert [factor["id"] for factor in left.json()["factors"]] == ids[1:]
    assert (await log_in(client, passkey.get(await options(client)))).status_code == 400
    assert (await log_in(client, other.get(await options(client)))).status_code == 200
    left = await admin.post(f"{OWN}/{ids[1]}/remove", json={"current_password": PASSWORD})
    assert left.json()["factors"] == []
    assert (await log_in(client, other.get(await options(client)))).status_code == 400


async def test_a_deactivated_user_has_none(
    client: httpx2.AsyncClient, passkey: Authenticator, database: asyncpg.Connection
) -> None:
    await database.execute("UPDATE users SET is_active = false")
    assert (await log_in(client, passkey.get(await options(client)))).json()["error"] == "invalid_grant"
    assert await database.fetchval("SELECT last_used_at FROM second_factors") is None


async def test_a_right_one_ends_the_count_of_wrong_ones(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, passkey: Authenticator, database: asyncpg.Connection
) -> None:
    """Whichever it is: with several factors, and with a recovery code."""
    app = (await admin.post(f"{OWN}/totp", json={"current_password": PASSWORD})).json()
    totp = pyotp.TOTP(app["secret"])
    await admin.post(f"{OWN}/{app['id']}/confirm", json={"otp": totp.now()})
    proof = {"current_password": PASSWORD}
    codes = (await admin.post("/v1/users/me/recovery-codes", json=proof)).json()["recovery_codes"]
    for kind in ("otp", "recovery_code", "credential"):
        waiting = await mfa_token(client)
        for _ in range(2):
            assert (await token(client, grant_type=MFA, mfa_token=waiting, otp="abc")).status_code == 400
        assert await database.fetchval("SELECT array_agg(failures) FROM second_factors") == [2, 2]
        await database.execute("UPDATE second_factors SET last_step = 0")
        proof = {
            "otp": totp.now(),
            "recovery_code": codes[0],
            "credential": json.dumps(passkey.get(await options(client, mfa_token=waiting))),
        }[kind]
        assert (await token(client, grant_type=MFA, mfa_token=waiting, **{kind: proof})).status_code == 200
        assert await database.fetchval("SELECT array_agg(failures) FROM second_factors") == [0, 0]


async def test_whoever_guesses_passwords_keeps_no_passkey_waiting(
    client: httpx2.AsyncClient, passkey: Authenticator, database: asyncpg.Connection
) -> None:
    await database.execute("UPDATE second_factors SET failures = 20, failed_at = now()")
    waiting = await mfa_token(client)
    assert (await token(client, grant_type=MFA, mfa_token=waiting, otp="123456")).status_code == 429
    proof = json.dumps(passkey.get(await options(client, mfa_token=waiting)))
    assert (await token(client, grant_type=MFA, mfa_token=waiting, credential=proof)).status_code == 200


@pytest.mark.parametrize(
    ("lie", "value", "cause"),
    [
        ("origin", "http://127.0.0.1:8000", "was not opened at http://localhost:8000"),
        ("rp_id", "evil.example", "cannot be read"),
        ("cross_origin", True, "inside of another site"),
        ("flags", 0, "cannot be read"),
        ("cose", {3: -65535}, "cannot be read"),
        ("cose", {1: 2, 3: -7, -1: 1, -2: b"x" * 32, -3: b"y" * 32}, "cannot be read"),
        ("id", b"i" * 1024, "too long"),
        ("id", bytes(range(256)) * 30, "too long"),
        ("cose", {1: 3, 3: -257, -1: b"n" * 2000, -2: b"\1\0\1", -3: b""}, "too long"),
    ],
)
async def test_what_is_not_enrolled(admin: httpx2.AsyncClient, lie: str, value: Any, cause: str) -> None:
    authenticator, made = Authenticator(), await begun(admin)
    if lie == "cose":
        credential = authenticator.create(made["options"], cose=value)
    else:
        setattr(authenticator, lie, value)
        credential = authenticator.create(made["options"])
    refused = (await admin.post(f"{OWN}/{made['id']}/confirm", json={"credential": credential})).json()
    assert refused["code"] == "wrong-passkey"
    assert cause in refused["cause"]
    assert refused["hint"].startswith("begin again, at http://localhost:8000")
    assert (await admin.get(OWN)).json()["factors"][0]["confirmed_at"] is None


async def test_each_kind_is_confirmed_in_its_own_way(admin: httpx2.AsyncClient) -> None:
    made = await begun(admin)
    refused = await admin.post(f"{OWN}/{made['id']}/confirm", json={"otp": "123456"})
    assert refused.json()["code"] == "wrong-passkey"
    app = (await admin.post(f"{OWN}/totp", json={"current_password": PASSWORD})).json()
    credential = Authenticator().create(made["options"])
    refused = await admin.post(f"{OWN}/{app['id']}/confirm", json={"credential": credential})
    assert refused.json()["code"] == "wrong-otp"
    for body in ({}, {"otp": pyotp.TOTP(app["secret"]).now(), "credential": credential}):
        assert (await admin.post(f"{OWN}/{app['id']}/confirm", json=body)).status_code == 422


async def test_where_browsers_have_none_it_is_said(
    app: FastAPI, client: httpx2.AsyncClient, admin: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = {"current_password": PASSWORD}
    for issuer in ("apictl", "https://192.0.2.1", "http://accounts.example.com", "https://[x"):
        monkeypatch.setattr(app.state.keys, "public_url", issuer)
        assert (await client.post("/v1/auth/passkey")).json()["code"] == "bad-settings"
    monkeypatch.undo()
    assert (await admin.post(f"{OWN}/passkey", json=begin)).status_code == 201


@pytest.mark.parametrize(
    ("issuer", "origin"),
    [
        ("http://127.0.0.1:8000", "http://localhost:8000"),
        ("http://[::1]:8000/api", "http://localhost:8000"),
        ("https://Accounts.Example.com:443/x", "https://accounts.example.com"),
        ("http://localhost:80", "http://localhost"),
        ("https://accounts.example.com:8443", "https://accounts.example.com:8443"),
    ],
)
def test_the_origin_is_the_browsers(issuer: str, origin: str) -> None:
    assert passkeys.Site.of(issuer).origin == origin


async def test_malformed_answers_are_refusals(
    app: FastAPI, client: httpx2.AsyncClient, admin: httpx2.AsyncClient, passkey: Authenticator
) -> None:
    """Parts of a good answer are cut, swapped and replaced; nothing of it is a 500, and nothing is let in."""
    rng = random.Random(4)  # noqa: S311 - the same every time
    made = await begun(admin)
    good = Authenticator().create(made["options"])
    answer = passkey.get(await options(client))

    def mutated(document: dict[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = json.loads(json.dumps(document))
        inside = rng.choice([changed, changed["response"]])
        name = rng.choice(list(inside))
        text = str(inside[name])
        cut = rng.randrange(len(text) + 1)
        swapped = text[:cut] + "A" + text[cut + 1 :]
        inside[name] = rng.choice(
            [None, 1, [], {}, "", "\u0000", "\ud800", text[:cut], text[cut:], swapped, "A" * 5000]
        )
        return changed

    for _ in range(cases(2000)):
        lie = mutated(answer)
        if lie != answer:
            refused = await log_in(client, lie)
            # Of an answer's parts, these are nothing that was signed.
            unsigned = {**lie, "response": {**answer["response"], "userHandle": None}} == lie
            harmless = {key for key in answer if lie.get(key) != answer[key]} <= {"clientExtensionResults"}
            assert refused.status_code in ({200, 400} if unsigned or harmless else {400}), lie
            if refused.status_code == 200:
                answer = passkey.get(await options(client))
        body = mutated(good)
        if body != good and body["response"] != good["response"]:
            # Not by the client's own means, which cannot write a lone surrogate.
            content, headers = json.dumps({"credential": body}), {"Content-Type": "application/json"}
            refused = await admin.post(f"{OWN}/{made['id']}/confirm", content=content, headers=headers)
            # Nothing is signed here: one who has their own browser lie to us enrols what never logs anybody in.
            assert refused.status_code in {200, 422}, body
            if refused.status_code == 200:
                made = await begun(admin)
                good = Authenticator().create(made["options"])
    for text in ("", "null", "[]", "{", "[" * 8000, '{"a":' * 1500, "NaN", "\ud800".encode("utf-8", "surrogatepass")):
        refused = await client.post("/v1/auth/token", data={"grant_type": PASSKEY, "credential": text})
        assert refused.status_code in {400, 422}, text
