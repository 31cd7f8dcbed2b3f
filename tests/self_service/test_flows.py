"""Accounts that are made, and opened again, by a link in a mail: every flow, and what ends a link."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from api.config import Settings
from tests.conftest import PASSWORD, log_in
from tests.support.cases import THOROUGH
from tests.support.mail import MailServer, mail_server, text_of, worker_of

ADA: Final = "ada@example.com"
BOB: Final = "bob@example.com"
NEW_PASSWORD: Final = "five other unrelated words"


class Post:
    """A mail server, and the worker that brings it what is queued."""

    def __init__(self, app: FastAPI, server: MailServer, settings: Settings) -> None:
        self.server = server
        self._worker = worker_of(app.state.runtime, settings)

    async def comes(self) -> list[tuple[str, str]]:
        """Send what is queued; return to whom, and about what."""
        before = len(self.server.mails)
        await self._worker.drain()
        return self.server.subjects[before:]

    async def token(self, page: str) -> str:
        """Send what is queued; return the secret of the last mail's link, which leads to this page."""
        await self.comes()
        found, token = self.server.link()
        assert found == page
        return token


@pytest.fixture
async def post(settings: Settings, app: FastAPI) -> AsyncIterator[Post]:
    async with mail_server() as server:
        sending = settings.model_copy(update={"smtp_url": SecretStr(server.url)})
        object.__setattr__(app.state.runtime, "settings", sending)
        yield Post(app, server, sending)


@pytest.fixture
async def ada(admin: httpx2.AsyncClient, database: asyncpg.Connection, password_hash: str) -> dict[str, Any]:
    """A user with a password."""
    user: dict[str, Any] = (await admin.post("/v1/users", json={"email": ADA})).json()
    await database.execute("UPDATE users SET password_hash = $1 WHERE email = $2", password_hash, ADA)
    return user


async def entries(database: asyncpg.Connection) -> list[tuple[str, str]]:
    """Return actor and action of the audit entries about users by mail."""
    return [
        (row["actor"], row["action"])
        for row in await database.fetch("SELECT actor, action FROM audit_entries ORDER BY at, id")
    ]


async def later(database: asyncpg.Connection) -> None:
    """Let a minute go by for the mails there are: another of the kind may be asked for."""
    await database.execute("UPDATE mails SET minute = minute - 1")


async def test_registration(client: httpx2.AsyncClient, post: Post, database: asyncpg.Connection) -> None:
    asked = await client.post("/v1/auth/register", json={"email": "Ada@EXAMPLE.com"})
    assert asked.status_code == 202
    # An account that nobody has confirmed holds nothing: there is none.
    assert await database.fetchval("SELECT count(*) FROM users WHERE email = $1", ADA) == 0
    token = await post.token("register")
    assert post.server.subjects == [(ADA, "Finish your registration")]
    body = {"token": token, "password": "short", "full_name": "Ada"}
    weak = await client.post("/v1/auth/complete-registration", json=body)
    assert (weak.status_code, weak.json()["code"]) == (422, "weak-password")
    made = await client.post("/v1/auth/complete-registration", json=body | {"password": NEW_PASSWORD})
    assert (made.status_code, made.json()["email"], made.json()["full_name"]) == (201, ADA, "Ada")
    assert made.json()["email_verified_at"] is not None
    again = await client.post("/v1/auth/complete-registration", json=body | {"password": NEW_PASSWORD})
    assert (again.status_code, again.json()["code"]) == (400, "invalid-link")
    await log_in(client, ADA, NEW_PASSWORD)
    # Whoever has an account is told there, and nowhere else.
    await later(database)
    second = await client.post("/v1/auth/register", json={"email": ADA})
    assert (second.status_code, second.content) == (asked.status_code, asked.content)
    assert await post.comes() == [(ADA, "You have an account already")]
    assert "apictl_link_" not in post.server.mails[-1][1].as_string()
    assert {action for actor, action in await entries(database) if actor == ADA} == {
        *("user.create", "user.verify_email", "session.login")
    }


@pytest.mark.parametrize(("setting", "status"), [("closed", 403), ("invitation", 403), ("open", 202)])
async def test_who_may_register(
    client: httpx2.AsyncClient, post: Post, app: FastAPI, setting: str, status: int, database: asyncpg.Connection
) -> None:
    settings = app.state.runtime.settings.model_copy(update={"registration": setting})
    object.__setattr__(app.state.runtime, "settings", settings)
    asked = await client.post("/v1/auth/register", json={"email": ADA})
    assert (asked.status_code, asked.json().get("code")) == (status, "registration-closed" if status == 403 else None)
    assert await database.fetchval("SELECT count(*) FROM mails") == (status == 202)


async def test_forgotten_password(
    client: httpx2.AsyncClient, post: Post, ada: dict[str, Any], database: asyncpg.Connection
) -> None:
    session = await log_in(client, ADA)
    await client.post("/v1/auth/forgot-password", json={"email": ADA})
    token = await post.token("reset-password")
    done = await client.post("/v1/auth/reset-password", json={"token": token, "password": NEW_PASSWORD})
    # Whoever has read the mail has shown that the address is theirs.
    assert (done.status_code, done.json()["email_verified_at"] is None) == (200, False)
    me = await client.get("/v1/users/me", headers={"Authorization": f"Bearer {session['access_token']}"})
    assert me.status_code == 401
    await log_in(client, ADA, NEW_PASSWORD)
    assert (await entries(database))[-3:-1] == [("nobody", "user.send_reset"), (ADA, "user.reset_password")]
    # Nobody there, or nobody who may log in: nothing is sent, and nothing is left.
    await database.execute("UPDATE users SET is_active = false WHERE email = $1", ADA)
    await later(database)
    for email in (ADA, "nobody@example.com"):
        assert (await client.post("/v1/auth/forgot-password", json={"email": email})).status_code == 202
    assert await post.comes() == []
    assert await database.fetchval("SELECT count(*) FROM mails WHERE due_at IS NOT NULL") == 0


async def test_an_invitation(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, post: Post, database: asyncpg.Connection
) -> None:
    await admin.post("/v1/roles", json={"name": "support", "scopes": ["users:read"]})
    invited = {"email": ADA, "full_name": "Ada", "roles": ["support"]}
    assert (await admin.post("/v1/invitations", json=invited)).headers["apictl-changed"] == "true"
    # One a minute.
    assert (await admin.post("/v1/invitations", json=invited)).headers["apictl-changed"] == "false"
    # What the mail that is on its way does not promise is not said to be promised.
    other = await admin.post("/v1/invitations", json=invited | {"roles": []})
    assert (other.status_code, other.json()["code"]) == (429, "too-many-attempts")
    token = await post.token("register")
    body = {"token": token, "password": NEW_PASSWORD}
    # Who may not promise it any more, does not: the one who invited has lost the role's power meanwhile.
    await database.execute("UPDATE users SET is_superuser = false")
    refused = await client.post("/v1/auth/complete-registration", json=body)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid-link")
    assert await database.fetchval("SELECT count(*) FROM users WHERE email = $1", ADA) == 0
    await database.execute("UPDATE users SET is_superuser = true, is_active = false")
    assert (await client.post("/v1/auth/complete-registration", json=body)).json()["code"] == "invalid-link"
    await database.execute("UPDATE users SET is_active = true")
    made = await client.post("/v1/auth/complete-registration", json=body)
    assert (made.status_code, made.json()["roles"], made.json()["full_name"]) == (201, ["support"], "Ada")
    taken = await admin.post("/v1/invitations", json=invited)
    assert (taken.status_code, taken.json()["code"]) == (409, "email-taken")


async def test_an_address_and_another(
    app: FastAPI, client: httpx2.AsyncClient, post: Post, ada: dict[str, Any], database: asyncpg.Connection
) -> None:
    session = await log_in(client, ADA)
    client.headers["Authorization"] = f"Bearer {session['access_token']}"
    assert (await client.post("/v1/users/me/verify-email")).headers["apictl-changed"] == "true"
    verified = await client.post("/v1/auth/confirm-email", json={"token": await post.token("confirm-email")})
    assert verified.json()["email_verified_at"] is not None
    assert (await client.post("/v1/users/me/verify-email")).headers["apictl-changed"] == "false"
    change = {"email": BOB, "current_password": PASSWORD}
    wrong = await client.put("/v1/users/me/email", json=change | {"current_password": NEW_PASSWORD})
    assert wrong.json()["code"] == "wrong-password"
    assert (await client.put("/v1/users/me/email", json=change)).json()["email"] == ADA
    token = await post.token("confirm-email")
    assert post.server.subjects[-1][0] == BOB
    changed = await client.post("/v1/auth/confirm-email", json={"token": token})
    assert (changed.json()["email"], changed.json()["email_verified_at"] is None) == (BOB, False)
    assert await post.comes() == [(ADA, "Your address was changed")]
    assert BOB not in post.server.mails[-1][1].as_string()
    # An address that somebody has: the same answer, and they are told.
    free = await client.put("/v1/users/me/email", json=change | {"email": "free@example.com"})
    taken = await client.put("/v1/users/me/email", json=change | {"email": "root@example.com"})
    assert (free.status_code, free.content) == (taken.status_code, taken.content)
    assert ("root@example.com", "You have an account already") in await post.comes()


@pytest.mark.parametrize("how", ["all", "one"])
async def test_whose_sessions_are_ended_does_not_lose_the_address(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, post: Post, ada: dict[str, Any], how: str
) -> None:
    """Whoever had one of the sessions, and asked for another address, has no link to it any more."""
    session = await log_in(client, ADA)
    client.headers["Authorization"] = f"Bearer {session['access_token']}"
    (await client.put("/v1/users/me/email", json={"email": BOB, "current_password": PASSWORD})).raise_for_status()
    token = await post.token("confirm-email")
    if how == "all":
        (await admin.delete("/v1/tokens", params={"user": ADA})).raise_for_status()
    else:
        (one,) = (await admin.get("/v1/tokens", params={"user": ADA})).json()["items"]
        (await admin.delete(f"/v1/tokens/{one['id']}")).raise_for_status()
    answer = await client.post("/v1/auth/confirm-email", json={"token": token})
    assert answer.json()["code"] == "invalid-link"


async def test_whoever_is_deleted_is_not_invited_any_more(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, post: Post
) -> None:
    """An invitation beside the registration that made the account does not make it once more."""
    await client.post("/v1/auth/register", json={"email": ADA})
    registered = await post.token("register")
    await admin.post("/v1/invitations", json={"email": ADA})
    invited = await post.token("register")
    body = {"password": NEW_PASSWORD}
    assert (await client.post("/v1/auth/complete-registration", json=body | {"token": registered})).status_code == 201
    taken = await client.post("/v1/auth/complete-registration", json=body | {"token": invited})
    assert (taken.status_code, taken.json()["code"]) == (400, "invalid-link")
    (await admin.delete(f"/v1/users/{ADA}")).raise_for_status()
    ended = await client.post("/v1/auth/complete-registration", json=body | {"token": invited})
    assert (ended.status_code, ended.json()["code"]) == (400, "invalid-link")
    # And to say in the same minute that they are, by a mail whose link is dead, would be untrue.
    again = await admin.post("/v1/invitations", json={"email": ADA})
    assert (again.status_code, again.json()["code"]) == (429, "too-many-attempts")


async def test_a_mail_in_hand_whose_link_was_ended_is_not_sent_again(
    admin: httpx2.AsyncClient, post: Post, database: asyncpg.Connection
) -> None:
    await admin.post("/v1/invitations", json={"email": ADA})
    post.server.hold, post.server.answer = asyncio.Event(), "451 later"
    sending = asyncio.create_task(post.comes())
    await asyncio.wait_for(post.server.held.wait(), 20)
    await admin.post("/v1/users", json={"email": ADA})
    (await admin.delete(f"/v1/users/{ADA}")).raise_for_status()
    post.server.hold.set()
    await sending
    assert await database.fetchval("SELECT due_at FROM mails") is None


async def test_a_key_that_is_revoked_has_invited_nobody(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, post: Post, database: asyncpg.Connection
) -> None:
    """Of one that lives, the log says that it was it."""
    issued = []
    for name in ("first", "second"):
        new = {"user": "root@example.com", "name": name, "scopes": ["users:write"]}
        issued.append((await admin.post("/v1/api-keys", json=new)).json())
        client.headers["Authorization"] = f"Bearer {issued[-1]['key']}"
        (await client.post("/v1/invitations", json={"email": f"{name}@example.com"})).raise_for_status()
    await post.comes()
    tokens = [post.server.link(number)[1] for number in range(2)]
    (await admin.delete(f"/v1/api-keys/{issued[0]['id']}")).raise_for_status()
    answers = [
        await client.post("/v1/auth/complete-registration", json={"token": token, "password": NEW_PASSWORD})
        for token in tokens
    ]
    assert [answer.status_code for answer in answers] == [400, 201]
    await admin.post("/v1/roles", json={"name": "support", "scopes": []})
    await later(database)
    (await client.post("/v1/invitations", json={"email": BOB, "roles": ["support"]})).raise_for_status()
    body = {"token": await post.token("register"), "password": NEW_PASSWORD}
    assert (await client.post("/v1/auth/complete-registration", json=body)).status_code == 201
    by = await database.fetchval("SELECT api_key_id FROM audit_entries WHERE action = 'user.grant_role'")
    assert str(by) == issued[1]["id"]


async def test_two_who_want_one_address_have_a_mail_each(
    app: FastAPI, client: httpx2.AsyncClient, admin: httpx2.AsyncClient, post: Post, ada: dict[str, Any]
) -> None:
    """Each of which names the account: who reads it must not give the address to somebody else's."""
    change = {"email": BOB, "current_password": PASSWORD}
    session = await log_in(client, ADA)
    client.headers["Authorization"] = f"Bearer {session['access_token']}"
    for asking in (admin, client):
        assert (await asking.put("/v1/users/me/email", json=change)).headers["apictl-changed"] == "true"
    await post.comes()
    texts = [text_of(message) for _, message in post.server.mails[-2:]]
    assert sorted(name in text for text in texts for name in (ADA, "root@example.com")) == [False, False, True, True]


async def test_what_ends_a_link(
    app: FastAPI,
    client: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    post: Post,
    ada: dict[str, Any],
    database: asyncpg.Connection,
    password_hash: str,
) -> None:
    """Its use, its time, another password, another address, a deactivation; and no page takes another's."""

    async def reset_link() -> str:
        await later(database)
        await client.post("/v1/auth/forgot-password", json={"email": ADA})
        return await post.token("reset-password")

    async def is_good(token: str) -> bool:
        answer = await client.post("/v1/auth/reset-password", json={"token": token, "password": NEW_PASSWORD})
        assert answer.is_success or answer.json()["code"] == "invalid-link"
        return answer.is_success

    token = await reset_link()
    for place in ("confirm-email", "complete-registration"):
        body = {"token": token} | ({"password": NEW_PASSWORD} if place != "confirm-email" else {})
        assert (await client.post(f"/v1/auth/{place}", json=body)).json()["code"] == "invalid-link"
    tampered = token[:-1] + ("A" if token[-1] != "A" else "B")
    assert not await is_good(tampered)
    life = await database.fetchval("SELECT expires_at - now() FROM mails WHERE sent_at IS NOT NULL")
    assert 14 * 60 < life.total_seconds() <= 15 * 60
    await database.execute("UPDATE mails SET expires_at = now() - interval '1 second'")
    assert not await is_good(token)
    token = await reset_link()
    (await admin.put(f"/v1/users/{ADA}/password", json={"password": "seven more unrelated words"})).raise_for_status()
    assert not await is_good(token)
    token = await reset_link()
    (await admin.patch(f"/v1/users/{ADA}", json={"email": BOB})).raise_for_status()
    assert not await is_good(token)
    (await admin.patch(f"/v1/users/{BOB}", json={"email": ADA})).raise_for_status()
    await database.execute("UPDATE users SET is_active = false WHERE email = $1", ADA)
    assert not await is_good(token)
    await database.execute("UPDATE users SET is_active = true WHERE email = $1", ADA)
    other = await reset_link()
    assert await is_good(other)
    # One that was sent before, and never used.
    assert not await is_good(token)


async def test_two_hundred_at_once_use_it_once(
    client: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    post: Post,
    ada: dict[str, Any],
    database: asyncpg.Connection,
) -> None:
    """Row 20; of a link that ends by what it does, and of one whose account looks the same afterwards."""
    (await admin.post(f"/v1/users/{ADA}/verify-email")).raise_for_status()
    body = {"token": await post.token("confirm-email")}
    answers = await asyncio.gather(*(client.post("/v1/auth/confirm-email", json=body) for _ in range(200)))
    found = [answer.status_code for answer in answers if answer.status_code != 503]
    assert (found.count(200), set(found), len(found) > 150) == (1, {200, 400}, True)
    await client.post("/v1/auth/forgot-password", json={"email": ADA})
    body = {"token": await post.token("reset-password"), "password": NEW_PASSWORD}
    statuses: list[int] = []
    while len(statuses) < 200:
        # As many as may wait for their turn to hash.
        answers = await asyncio.gather(*(client.post("/v1/auth/reset-password", json=body) for _ in range(50)))
        statuses += [answer.status_code for answer in answers if answer.status_code != 503]
    assert (statuses.count(200), set(statuses)) == (1, {200, 400})
    assert (await entries(database)).count((ADA, "user.reset_password")) == 1


async def test_a_password_that_is_being_changed_ends_the_link(
    client: httpx2.AsyncClient, post: Post, ada: dict[str, Any], database: asyncpg.Connection, password_hash: str
) -> None:
    """What was right when it was looked at is looked at again, when nobody else can change the account."""
    await client.post("/v1/auth/forgot-password", json={"email": ADA})
    body = {"token": await post.token("reset-password"), "password": NEW_PASSWORD}
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(20), database.transaction():
        await database.execute("UPDATE users SET password_hash = $1 WHERE email = $2", password_hash + "x", ADA)
        asking = asyncio.create_task(client.post("/v1/auth/reset-password", json=body))
        while not await database.fetchval(waits):
            # Of all that this transaction sees, only others' activity is news to it.
            await database.execute("SELECT pg_stat_clear_snapshot()")
            await asyncio.sleep(0.01)
    assert (await asking).json()["code"] == "invalid-link"
    assert await database.fetchval("SELECT password_hash FROM users WHERE email = $1", ADA) == password_hash + "x"


async def test_nothing_plain_is_stored(
    client: httpx2.AsyncClient, post: Post, ada: dict[str, Any], database: asyncpg.Connection
) -> None:
    await client.post("/v1/auth/register", json={"email": BOB})
    await client.post("/v1/auth/forgot-password", json={"email": ADA})
    await post.comes()
    secrets = [post.server.link(number)[1].removeprefix("apictl_link_") for number in range(2)]
    whole = "SELECT string_agg(row::text, ' ') FROM {} row"
    for (table,) in await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        dump = await database.fetchval(whole.format(table)) or ""
        assert not [secret for secret in secrets if secret in dump or secret[22:] in dump], table


POISONED: Final = {
    "Host": ("evil.example", "evil.example:8000", "localhost:8000@evil.example", "evil.example/#", "[::1]", "xn--evil"),
    "X-Forwarded-Host": ("evil.example", "localhost, evil.example"),
    "X-Forwarded-Proto": ("https", "javascript"),
    "X-Forwarded-Server": ("evil.example",),
    "X-Forwarded-Prefix": ("//evil.example",),
    "Forwarded": ("host=evil.example;proto=https", 'for=x;host="evil.example"'),
    "X-Host": ("evil.example",),
    "X-Original-URL": ("https://evil.example/",),
    "X-Rewrite-URL": ("//evil.example/",),
    "Origin": ("https://evil.example",),
    "Referer": ("https://evil.example/",),
}


async def test_links_are_from_the_setting_alone(
    client: httpx2.AsyncClient, post: Post, ada: dict[str, Any], database: asyncpg.Connection
) -> None:
    """Row 21."""
    accepted = 0
    source = random.Random(1)  # noqa: S311 - nothing secret
    requests = 2000 if THOROUGH else 60
    for number in range(requests):
        names = source.sample([*POISONED], source.randint(1, len(POISONED)))
        headers = {name: source.choice(POISONED[name]) for name in names}
        route, email = ("register", f"new{number}@example.com") if number else ("forgot-password", ADA)
        answer = await client.post(f"/v1/auth/{route}", json={"email": email}, headers=headers)
        # Most of these names are not those of this server, and are not even listened to.
        assert answer.status_code in {202, 400, 421}
        accepted += answer.status_code == 202
        await database.execute("TRUNCATE throttles")
        # A refusal says which name it was, and leads nowhere.
        assert answer.status_code == 421 or "evil" not in answer.text + str(answer.headers)
        assert "//evil" not in answer.text + str(answer.headers)
    await post.comes()
    assert len(post.server.mails) == accepted > requests / 4
    for _, message in post.server.mails:
        assert "evil" not in message.as_string()
        assert set(re.findall(r"https?://[^/]*", message.as_string())) == {"http://localhost:8000"}


async def test_what_a_mail_is(client: httpx2.AsyncClient, post: Post) -> None:
    await client.post("/v1/auth/register", json={"email": "ada@bücher.example"})
    await post.comes()
    ((to,), message) = post.server.mails[0]
    assert to == message["To"] == "ada@xn--bcher-kva.example"
    assert message["From"] == "no-reply@localhost"
    assert message["Auto-Submitted"] == "auto-generated"
    assert abs((datetime.now(UTC) - message["Date"].datetime).total_seconds()) < 60
    assert message["Message-ID"].endswith("@localhost>")
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert max(map(len, message.as_bytes().splitlines())) <= 998
