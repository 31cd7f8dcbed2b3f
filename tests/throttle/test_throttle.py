"""Row 3: guesses cost time, wherever they are counted, and nobody is locked out."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any, Final

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr, ValidationError

from api.config import Settings
from api.core import valkey
from api.core.errors import BadSettings, Busy
from api.core.passwords import Passwords
from api.core.runtime import Runtime
from api.throttle import buckets
from api.throttle.buckets import Limit, network
from api.throttle.service import Throttle, TooManyAttempts
from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER
from tests.support.cases import cases
from tests.support.postgres import somebody_waits
from tests.support.processes import Apictl
from tests.support.servers import two_servers
from tests.throttle.conftest import Forward, From

GUESSES: Final = buckets.GUESS.burst


async def guess(client: httpx2.AsyncClient, username: str = SUPERUSER, password: str = "wrong") -> httpx2.Response:
    form = {"grant_type": "password", "username": username, "password": password}
    return await client.post("/v1/auth/token", data=form)


async def guesses(client: httpx2.AsyncClient, number: int, username: str = SUPERUSER) -> Counter[int]:
    return Counter([(await guess(client, username)).status_code for _ in range(number)])


def told(answer: httpx2.Response) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Return all that an answer tells, but for its number."""
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, headers, answer.json() | {"request_id": ""}


async def test_guesses_cost_time_and_no_more_than_that(
    client: httpx2.AsyncClient, superuser: User, forward: Forward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account that there is, and one that there is not, are told the same, byte for byte."""
    answers, hashed, run = {}, list[Any](), Passwords._run

    async def counted(self: Passwords, work: Any) -> Any:
        hashed.append(work)
        return await run(self, work)

    monkeypatch.setattr(Passwords, "_run", counted)
    for username in (SUPERUSER, "nobody@example.com"):
        answers[username] = [await guess(client, username) for _ in range(GUESSES + 1)]
    assert [told(one) for one in answers[SUPERUSER]] == [told(one) for one in answers["nobody@example.com"]]
    assert [one.status_code for one in answers[SUPERUSER]] == [400] * GUESSES + [429]
    refused = answers[SUPERUSER][-1]
    assert (refused.json()["code"], refused.json()["error"]) == ("too-many-attempts", "temporarily_unavailable")
    assert refused.headers["Retry-After"] in {"59", "60"}
    # Nor is anything hashed for whoever is refused.
    assert len(hashed) == 2 * GUESSES
    # Who is refused is not asked whether they are right; and it makes the wait no longer.
    await forward(30)
    waits = [int((await guess(client, password=PASSWORD)).headers["Retry-After"]) for _ in range(5)]
    assert all(28 <= wait <= 30 for wait in waits), waits
    # One comes back each minute, and never a longer wait than that, however long somebody goes on.
    for _ in range(3):
        await forward(60)
        assert await guesses(client, 3) == {400: 1, 429: 2}
    await forward(60)
    assert (await guess(client, password=PASSWORD)).status_code == 200
    assert await guesses(client, GUESSES + 1) == {400: GUESSES, 429: 1}


async def test_many_networks_at_one_account_leave_its_owner_in_peace(
    client_from: From, superuser: User, forward: Forward
) -> None:
    home, elsewhere = await client_from("2001:db8:1:2::3"), await client_from("192.0.2.1")
    assert (await guess(home, password=PASSWORD)).status_code == 200
    seen: Counter[int] = Counter()
    for number in range(7):
        seen += await guesses(await client_from(f"198.51.100.{number}"), GUESSES)
    assert seen == {400: buckets.BY_ACCOUNT.burst, 429: 7 * GUESSES - buckets.BY_ACCOUNT.burst}
    # From the same network as before, if not the same address; from another one, in no more than a window.
    home = await client_from("2001:db8:1:2:ffff::1")
    assert (await guess(home, password=PASSWORD)).status_code == 200
    refused = await guess(elsewhere, password=PASSWORD)
    assert (refused.status_code, int(refused.headers["Retry-After"]) <= 6) == (429, True)
    await forward(6)
    assert (await guess(elsewhere, password=PASSWORD)).status_code == 200


async def test_one_network_at_many_accounts(client_from: From, superuser: User, forward: Forward) -> None:
    """What is refused takes nothing from anybody; and a mapped address is the address that it maps."""
    there = await client_from("192.0.2.1")
    assert await guesses(there, 60) == {400: GUESSES, 429: 60 - GUESSES}
    left = buckets.BY_NETWORK.burst - GUESSES
    seen = Counter([(await guess(there, f"{number}@example.com")).status_code for number in range(left + 5)])
    assert seen == {400: left, 429: 5}
    mapped = await client_from("::ffff:192.0.2.1")
    assert (await guess(mapped, "one@example.com")).status_code == 429
    assert (await guess(await client_from("192.0.2.2"), password=PASSWORD)).status_code == 200
    await forward(5)
    assert await guesses(there, 2, "two@example.com") == {400: 1, 429: 1}


async def test_everybody_together(
    client_from: From, superuser: User, monkeypatch: pytest.MonkeyPatch, store: str | None
) -> None:
    monkeypatch.setattr(buckets, "IN_TOTAL", Limit("everybody", 6, 60))
    home, other = await client_from("192.0.2.1"), await client_from("192.0.2.2")
    assert (await guess(home, password=PASSWORD)).status_code == 200
    for number in range(7):
        there = await client_from(f"198.51.100.{number}")
        assert (await guess(there, f"{number}@example.com")).status_code == (400 if number < 6 else 429)
    assert (await guess(other, password=PASSWORD)).status_code == 429
    assert (await guess(home, password=PASSWORD)).status_code == 200


async def test_the_right_password_forty_times_at_once(
    client: httpx2.AsyncClient, superuser: User, store: str | None
) -> None:
    answers = await asyncio.gather(*(guess(client, password=PASSWORD) for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}


async def test_of_fifty_at_once_as_many_take_one_as_there_are(runtime: Runtime, store: str | None) -> None:
    """In as many processes as may be; those that wait for each other in one process are left out here."""
    kept = Throttle(runtime, "192.0.2.1")._store
    needed = [buckets.bucket(buckets.GUESS, "ada@example.com", "192.0.2.1")]
    waits = await asyncio.gather(*(kept.take(needed, known=b"") for _ in range(50)))
    assert waits.count(None) == GUESSES
    assert all(0 < wait.total_seconds() <= 60 for wait in waits if wait is not None)


async def test_whoever_had_to_wait_looks_again(runtime: Runtime, database: asyncpg.Connection) -> None:
    """All five have seen that one is left, when they come to its row."""
    kept = Throttle(runtime, "192.0.2.1")._store
    needed = [buckets.bucket(buckets.GUESS, "ada@example.com", "192.0.2.1")]
    for _ in range(GUESSES - 1):
        assert await kept.take(needed, known=b"") is None
    async with database.transaction():
        await database.execute("SELECT FROM throttles FOR UPDATE")
        taking = [asyncio.create_task(kept.take(needed, known=b"")) for _ in range(5)]
        await somebody_waits(database, number=5)
    assert (await asyncio.gather(*taking)).count(None) == 1


async def test_what_was_not_looked_at_is_no_guess(runtime: Runtime, store: str | None) -> None:
    throttle = Throttle(runtime, "192.0.2.1")
    for _ in range(2 * GUESSES):
        with pytest.raises(Busy):
            async with throttle.attempt("ada@example.com"):
                raise Busy


async def test_mails(runtime: Runtime, forward: Forward) -> None:
    """Three to an address in a quarter of an hour, whoever asks; twenty because of a network, to whomever."""
    throttle, other = Throttle(runtime, "192.0.2.1"), Throttle(runtime, "192.0.2.2")
    for _ in range(3):
        await throttle.take_mail("reset", "ada@example.com")
    with pytest.raises(TooManyAttempts) as refused:
        await other.take_mail("reset", "ada@example.com")
    assert refused.value.retry_after in {299, 300}
    # Whoever has mails of one kind sent to somebody keeps them from no other.
    await other.take_mail("verify", "ada@example.com")
    for number in range(17):
        await throttle.take_mail("reset", f"{number}@example.com")
    with pytest.raises(TooManyAttempts):
        await throttle.take_mail("reset", "bob@example.com")
    await other.take_mail("reset", "bob@example.com")
    await forward(300)
    await other.take_mail("reset", "ada@example.com")


async def test_the_table_does_not_grow(
    client: httpx2.AsyncClient, superuser: User, database: asyncpg.Connection
) -> None:
    """A row says nothing any more once its bucket is full, and then the next guesses remove it. Nor does it log."""
    await asyncio.gather(*(guess(client, f"{number}@example.com") for number in range(30)))
    assert await database.fetchval("SELECT count(*) FROM throttles") == 62
    await database.execute("UPDATE throttles SET until = until - interval '1 day'")
    for _ in range(7):
        assert (await guess(client)).status_code == 400
    assert await database.fetchval("SELECT count(*) FROM throttles") == 4
    assert await database.fetchval("SELECT relpersistence FROM pg_class WHERE relname = 'throttles'") == b"u"


async def test_a_thousand_guesses_at_once_in_two_processes(
    apictl: Apictl, environment: dict[str, str], superuser: User, database: asyncpg.Connection
) -> None:
    async with two_servers(apictl, environment) as servers:
        addresses = [str(server.base_url) for server in servers]
        transport = httpx2.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx2.AsyncClient(transport=transport, base_url=addresses[0], timeout=30) as home:
            assert (await guess(home, password=PASSWORD)).status_code == 200
            answers = await asyncio.gather(*(guess(servers[number % 2]) for number in range(cases(1000))))
            statuses = Counter(answer.status_code for answer in answers)
            assert set(statuses) <= {400, 429, 503}
            assert 0 < statuses[400] <= 10, statuses
            waits = [int(answer.headers["Retry-After"]) for answer in answers if answer.status_code != 400]
            assert all(1 <= wait <= 60 for wait in waits)
            # From where its owner usually is, at once; from where the guesses come from, when a window is over.
            assert (await guess(home, password=PASSWORD)).status_code == 200
        assert (await guess(servers[1], password=PASSWORD)).status_code == 429
        await database.execute("UPDATE throttles SET until = until - interval '60 seconds'")
        assert (await guess(servers[1], password=PASSWORD)).status_code == 200


async def test_a_valkey_that_does_not_answer_lets_nobody_guess(
    app: FastAPI, client: httpx2.AsyncClient, superuser: User, settings: Settings
) -> None:
    gone = settings.model_copy(update={"throttle_url": SecretStr("redis://:s3cret@127.0.0.1:1")})
    app.state.runtime = replaced = replace(app.state.runtime, valkey=valkey.Valkey.of(gone))
    refused = await guess(client, password=PASSWORD)
    assert (refused.status_code, refused.json()["code"]) == (503, "valkey-unreachable")
    assert refused.headers["Retry-After"] == "1"
    assert "s3cret" not in refused.text
    assert (await client.get("/health/ready")).status_code == 200
    assert replaced.valkey is not None
    await replaced.valkey.close()


async def test_a_url_that_nothing_here_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for url, problem in (("http://127.0.0.1", "valkey://"), ("redis://127.0.0.1:x", "not a URL")):
        with pytest.raises(ValidationError, match=problem):
            Settings(throttle_url=SecretStr(url))
    unreadable = valkey.Valkey.of(Settings(throttle_url=SecretStr("redis://127.0.0.1:1?what=ever")))
    assert unreadable is not None
    with pytest.raises(BadSettings, match="cannot be read"):
        await unreadable.run("", [], [])
    await unreadable.close()
    # Only its beginning has a meaning.
    named = valkey.Valkey.of(Settings(throttle_url=SecretStr("valkey://valkey:6379")))
    assert named is not None
    assert named._url == "redis://valkey:6379"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadSettings) as refused:
        valkey.Valkey.of(Settings(throttle_url=SecretStr("valkeys://example.com")))
    assert "apictl[redis]" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("testclient", ""),
    ],
)
def test_networks(address: str, expected: str) -> None:
    assert network(address) == expected
