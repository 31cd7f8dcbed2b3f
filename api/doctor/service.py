"""The doctor: what is wrong here, and what to do about it, the same behind both doors. Nothing is changed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Row

from api.config import Settings
from api.core.actor import Actor, Scope
from api.core.connecting import connect, redact
from api.core.direct import CONNECTIONS, close
from api.core.errors import ApictlError, DatabaseTimeout
from api.core.failures import translated
from api.core.runtime import Runtime
from api.core.valkey import Valkey
from api.database import make_engine
from api.doctor import crud
from api.doctor.looking import failed, hash_cost, metrics, public_url, secret_key, storage, traces
from api.doctor.schemas import Check, Diagnosis
from api.mail import crud as mail
from api.migrations import crud as migrations
from api.migrations.revisions import head
from api.migrations.state import state
from api.signing_keys import crud as signing_keys
from api.signing_keys.ring import opened
from api.tokens.keys import Keys

OLDEST: Final = 140000
# Seconds between this machine's clock and the database's: tokens are dated by both.
SKEW: Final = 5
# What becomes of a key that signs for longer (NIST SP 800-57, 5.3.6: one to three years), or does not begin.
KEY_AGE: Final = timedelta(days=365)
KEY_WAIT: Final = timedelta(days=30)
# Seconds for each of these: all of them together are within a request's time.
SECONDS: Final = 1.5
ON_DATABASE: Final = ("clock", "pool", "pooler", "schema", "models", "signing-keys", "servers", "mail")


class DoctorService:
    """Looks at everything that may be wrong; one instance serves one call."""

    def __init__(
        self, settings: Settings, actor: Actor, hold_runtime: Callable[[], AbstractAsyncContextManager[Runtime]]
    ) -> None:
        self._settings = settings
        self._actor = actor
        self._hold_runtime = hold_runtime

    async def doctor(self) -> Diagnosis:
        """Return what was found, whatever of it works; what needs somebody comes first."""
        self._actor.require(Scope.DOCTOR_READ)
        checks = [look(self._settings) for look in (secret_key, public_url, storage, metrics, traces)]
        checks += await self._look(("valkey",), self._valkey)
        try:
            async with self._hold_runtime() as runtime, runtime.one_at_a_time:
                # Several would be one another's trouble: a hash, and models compared, on each.
                checks += await self._with(runtime)
        except ApictlError as error:
            checks += [self._failed("database", error), *skipped("hash-cost", *ON_DATABASE)]
        return Diagnosis.of(checks)

    async def _with(self, runtime: Runtime) -> list[Check]:
        checks = [await self._hash_cost(runtime)]
        try:
            began = time.time()
            async with runtime.transaction(readonly=True) as session:
                await session.connection()
                began = time.time()
                facts = await crud.facts(session)
        except ApictlError as error:
            return [*checks, self._failed("database", error), *skipped(*ON_DATABASE)]
        here = datetime.fromtimestamp((began + time.time()) / 2, UTC)
        checks += [self._database(runtime, facts), clock(here, facts.now)]
        for names, look in (
            (("schema", "models"), partial(self._schema, runtime)),
            (("pooler",), partial(self._pooler, runtime)),
            (("signing-keys",), partial(self._signing_keys, runtime)),
            (("servers", "pool"), partial(self._servers, runtime, facts)),
            (("mail",), partial(self._mail, runtime)),
        ):
            checks += await self._look(names, look)
        return checks

    async def _look(self, names: tuple[str, ...], look: Callable[[], Awaitable[list[Check]]]) -> list[Check]:
        """Return the checks of these names; if the first of them fails, the others cannot be made."""
        try:
            async with asyncio.timeout(SECONDS):
                return await look()
        except ApictlError as error:
            return [self._failed(names[0], error), *skipped(*names[1:])]
        except TimeoutError:
            slow = DatabaseTimeout(f"It took longer than {SECONDS:g} s", hint="look at its load, and at the network")
            return [self._failed(names[0], slow), *skipped(*names[1:])]

    def _failed(self, name: str, error: ApictlError) -> Check:
        # Addresses and accounts of the inside are for whoever is there.
        return failed(name, error, with_cause=self._actor.door == "cli")

    async def _hash_cost(self, runtime: Runtime) -> Check:
        try:
            seconds, rounds = await runtime.passwords.cost()
        except ApictlError as error:
            return Check(name="hash-cost", status="skipped", detail=error.detail, hint=error.hint)
        return hash_cost(seconds, runtime.passwords.threads, rounds=rounds)

    def _database(self, runtime: Runtime, facts: Row[Any]) -> Check:
        where = f" at {redact(runtime.database_url)}" if self._actor.door == "cli" else ""
        told = f"PostgreSQL {facts.version}, {facts.encoding}{where}"
        problem = None
        if facts.version_number < OLDEST:
            problem = "it is older than 14, the oldest that works", "upgrade it"
        elif facts.encoding != "UTF8":
            problem = "it cannot hold every name", "make the database anew: CREATE DATABASE … ENCODING 'UTF8'"
        elif facts.is_read_only:
            problem = "it only reads: a replica?", "point APICTL_DATABASE_URL at the primary"
        if problem is None:
            return Check(name="database", status="ok", detail=told)
        return Check(
            name="database", status="fail", detail=f"{told}: {problem[0]}", hint=problem[1], code="bad-settings"
        )

    async def _schema(self, runtime: Runtime) -> list[Check]:
        async with runtime.transaction(readonly=True) as session:
            found = await state(session)
        if found.pending:
            lacks = f"The database lacks {len(found.pending)} migration(s), {found.pending[0].id} first"
            schema = Check(name="schema", status="fail", detail=lacks, hint="run: apictl migrate", code="schema-behind")
            return [schema, *skipped("models")]
        if found.current != head():
            newer = f"at {found.current}, which is newer, and was only added to"
            return [Check(name="schema", status="ok", detail=newer), *skipped("models")]
        # It is work of half a second, which nobody else should wait for.
        differing = await asyncio.to_thread(asyncio.run, differences(runtime.database_url, self._settings))
        models = Check(name="models", status="ok", detail="the schema is what the models say")
        if differing:
            told = f"The schema differs from the models in {len(differing)}: {'; '.join(differing[:3])}"
            hint = "somebody changed it by hand: apictl check-models shows all of it"
            models = Check(name="models", status="warn", detail=told, hint=hint)
        return [Check(name="schema", status="ok", detail=f"at {found.current}, as this version needs it"), models]

    async def _mail(self, runtime: Runtime) -> list[Check]:
        if self._settings.mail_url is None:
            told = "APICTL_SMTP_URL is not set: nobody gets a link from here"
            hint = "set it, and whoever waits for a mail gets it" if self._settings.registration != "closed" else None
            return [Check(name="mail", status="warn" if hint else "ok", detail=told, hint=hint)]
        (found,) = await runtime.direct.fetch(mail.NOT_SENT)
        told = f"{found['late']} wait for longer than a minute, {found['given_up']} were given up within a week"
        hint = None
        if found["late"] or found["given_up"]:
            last = await runtime.direct.fetch_one(mail.LAST_ERROR)
            # What a mail server says may have addresses in it.
            told += "" if last is None or self._actor.door == "http" else f"; the last error: {last['error']}"
            hint = "look at APICTL_SMTP_URL, and whether a server runs, or apictl work; the log has a line for each"
        return [Check(name="mail", status="warn" if hint else "ok", detail=told, hint=hint)]

    async def _valkey(self) -> list[Check]:
        # By a connection of its own: it may be what is wrong where the rest is well, and well where the rest is not.
        valkey = Valkey.of(self._settings)
        if valkey is None:
            return [Check(name="valkey", status="ok", detail="none: guesses are counted in the database")]
        try:
            await valkey.run("return 1", [], [])
        finally:
            await valkey.close()
        return [Check(name="valkey", status="ok", detail="it answers, and counts guesses")]

    async def _pooler(self, runtime: Runtime) -> list[Check]:
        with translated():
            connections = [
                await connect(runtime.database_url, self._settings, statement_cache_size=0) for _ in range(2)
            ]
            try:
                pooling = await crud.pooling(*connections)
            finally:
                for connection in connections:
                    await close(connection)
        if pooling == "transaction":
            told = "a pooler, by which each transaction may have another connection"
            hint = "commands work through it; for serve, name PostgreSQL itself, or a pool of sessions"
            return [Check(name="pooler", status="warn", detail=told, hint=hint)]
        told = "none: connections are PostgreSQL's own" if pooling == "none" else "a pooler of sessions"
        return [Check(name="pooler", status="ok", detail=told)]

    async def _signing_keys(self, runtime: Runtime) -> list[Check]:
        keys = Keys.load(self._settings)
        rows = await runtime.direct.fetch(signing_keys.RING)
        if not rows:
            return [Check(name="signing-keys", status="ok", detail="none yet: the first server makes one")]
        now = rows[0]["now"]
        keys.fill(opened(keys, rows), now=now, at=0)
        signs = keys.require_signing()
        age = now - signs.active_from
        told = f"{signs.algorithm}, {signs.kid}, for {age.days} days; {len(rows)} in use"
        late = [key.kid for key in keys.ring.values() if key.active_from - now > KEY_WAIT]
        foreign = [key.kid for key in keys.ring.values() if key.private is None]
        hint = None
        if foreign:
            told += f", of which {len(foreign)} were sealed with another secret key: {foreign[0]}"
            hint = "give all servers the same APICTL_SECRET_KEY; if that one is lost: apictl retire-key"
        elif age > KEY_AGE:
            hint = "apictl rotate-keys makes the next one"
        elif late:
            hint = f"{late[0]} does not sign for a month yet: is that meant? else: apictl rotate-keys"
        return [Check(name="signing-keys", status="warn" if hint else "ok", detail=told, hint=hint)]

    async def _servers(self, runtime: Runtime, facts: Row[Any]) -> list[Check]:
        async with runtime.transaction(readonly=True) as session:
            alive = await migrations.servers(session)
        named = ", ".join(f"{one.host} ({one.pid})" for one in alive[:5]) + (" and others" if alive[5:] else "")
        # And one for probes.
        each = self._settings.pool_size + CONNECTIONS + 1
        needed = each * max(1, len(alive))
        told = f"{len(alive)} process(es) of up to {each} connections; {facts.connected} of {facts.most} are in use"
        hint = None
        if needed > facts.most:
            hint = "raise max_connections, or lower APICTL_POOL_SIZE or the number of workers"
        elif facts.connected > 0.9 * facts.most:
            hint = "somebody else has most of them: pg_stat_activity says who"
        return [
            Check(name="pool", status="warn" if hint else "ok", detail=told, hint=hint),
            Check(name="servers", status="ok", detail=f"{len(alive)} alive: {named}" if alive else "none is alive"),
        ]


def clock(here: datetime, there: datetime) -> Check:
    """Compare this machine's clock with the database's."""
    ahead = (here - there).total_seconds()
    told = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the database's"
    if abs(ahead) > SKEW:
        hint = "set both by NTP: tokens are dated, and whoever verifies them has a clock too"
        return Check(name="clock", status="warn", detail=told, hint=hint)
    return Check(name="clock", status="ok", detail=told)


def skipped(*names: str) -> list[Check]:
    """Return checks that could not be made."""
    return [Check(name=name, status="skipped", detail="not looked at: see what failed") for name in names]


async def differences(url: str, settings: Settings) -> list[str]:
    """Return where the schema is not what the models say; on a connection, and in an event loop, of its own."""
    from api.migrations import script  # noqa: PLC0415 - loads Alembic

    engine = make_engine(url, settings, pool_size=1)
    try:
        with translated():
            async with engine.connect() as connection:
                return await connection.run_sync(script.differences)
    finally:
        await engine.dispose()
