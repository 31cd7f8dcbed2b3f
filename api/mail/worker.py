"""Sends the mails that are queued; any number of processes may do it at once.

A mail is taken for a minute, in a transaction of its own; no connection waits for a mail server. Whoever is killed has
sent it or not: when the minute is over, it is taken again. So a mail comes once, or twice where a process was killed
between a server's yes and the note of it; both are the same message, with the same link.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from api.audit import crud as audit
from api.core import logs
from api.core.actor import Actor
from api.core.errors import ApictlError
from api.core.runtime import Runtime
from api.mail import crud
from api.mail.letters import letter
from api.mail.links import token
from api.mail.models import Mail
from api.mail.sending import NotSent, Sender
from api.users import crud as users
from api.users.models import User

log: Final = logging.getLogger("apictl")

# Mails under way at once: one that a server is slow about keeps no others waiting.
HANDS: Final = 4
# Seconds between two looks where nothing was to be sent.
PAUSE: Final = 1.0
# Seconds that mails in hand have when the process is to end; whoever takes longer is sent it again, by another one.
LAST: Final = 5.0
FIRST_DELAY: Final = 15
LONGEST_DELAY: Final = 3600
# What is not sent, for whoever counts it: statements are for services alone.
NOT_SENT: Final = crud.NOT_SENT
# Where a link of each kind leads.
PAGES: Final = {
    "register": "register",
    "invite": "register",
    "verify": "confirm-email",
    "change": "confirm-email",
    "reset": "reset-password",
}


@dataclass
class Tally:
    """What became of the mails that a worker took."""

    sent: int = 0
    failed: int = 0
    last_error: str = ""


class Whom(NamedTuple):
    """The account that a mail is about, and the one that has its address."""

    user: User | None
    holder: User | None


class Worker:
    """Sends what is queued."""

    def __init__(self, runtime: Runtime, key: bytes) -> None:
        """Look at the settings.

        Raises:
            MailUnset: They do not say how mail is sent.
        """
        self._runtime = runtime
        self._key = key
        self._sender = Sender(runtime.settings)
        self._stopping = asyncio.Event()
        self.tally = Tally()

    def stop(self) -> None:
        """Take no more mails; those in hand are sent."""
        self._stopping.set()

    async def drain(self) -> None:
        """Send what is due now, one after the other."""
        while not self._stopping.is_set() and (taken := await self._take()) is not None:
            await self._deliver(*taken)

    async def run(self) -> None:
        """Send what is queued, until it is told to stop. Nothing that goes wrong ends it."""
        hands = asyncio.Semaphore(HANDS)
        has_failed = False
        async with asyncio.TaskGroup() as sending:
            while not self._stopping.is_set():
                await hands.acquire()
                taken = None
                try:
                    if await self._runtime.direct.fetch(crud.DUE):
                        taken = await self._take()
                    has_failed = False
                except Exception as error:  # noqa: BLE001 - the database may be away: it is asked again
                    if not has_failed:
                        log.warning("mail waits: %s", getattr(error, "detail", repr(error)))
                    has_failed = True
                if taken is None:
                    hands.release()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._stopping.wait(), PAUSE)
                else:
                    sending.create_task(self._deliver(*taken)).add_done_callback(lambda _: hands.release())

    async def waiting(self) -> tuple[int, str]:
        """Return how many mails will be tried again, and why the last of them was not sent."""
        (found,) = await self._runtime.direct.fetch(NOT_SENT)
        last = await self._runtime.direct.fetch_one(crud.LAST_ERROR)
        return found["waiting"], "" if last is None else last["error"]

    async def _take(self) -> tuple[Mail, Whom | None] | None:
        """Take the mail that is due the longest, and look whom it is for; None if none is due."""
        async with self._runtime.transaction() as session:
            mail = await crud.claim(session)
            if mail is None:
                return None
            return mail, await self._addressee(session, mail)

    async def _deliver(self, mail: Mail, whom: Whom | None) -> None:
        """Send a mail that was taken, and note what came of it; whatever goes wrong, it is due again."""
        # Of who asked for it: so its lines in the log are found.
        logs.REQUEST_ID.set(mail.request_id)
        try:
            if whom is not None:
                await self._sender.send(self._letter(mail, whom))
            async with self._runtime.transaction() as session:
                if whom is None:
                    # Nobody has an account there, or not any more. Whoever asked was told nothing else; and whoever
                    # asks again in the same minute finds a mail, as for everybody: to queue another one takes longer.
                    await crud.change(session, mail.id, due_at=None, expires_at=func.now())
                else:
                    await crud.change(session, mail.id, due_at=None, sent_at=func.now(), error="")
            self.tally.sent += whom is not None
            log.info("mail %s (%s): %s", mail.id, mail.kind, "for nobody" if whom is None else "sent")
        except NotSent as error:
            await self._note_failure(mail, error)
        except ApictlError as error:
            # The database is away; the mail is due again when its lease is over.
            log.warning("mail %s (%s): %s", mail.id, mail.kind, error.detail)
        except Exception as error:
            # A bug of ours ends no other mail.
            log.exception("mail %s (%s)", mail.id, mail.kind)
            await self._note_failure(mail, NotSent(repr(error)))

    async def _addressee(self, session: AsyncSession, mail: Mail) -> Whom | None:
        """Return whom a mail is for; None if there is nobody to write to."""
        holder = await users.by_email(session, mail.address)
        if mail.kind in {"register", "invite"}:
            return Whom(None, holder)
        if mail.user_id is not None:
            user = await users.by_id(session, mail.user_id)
        else:
            # Only here is it looked at who that is: the request took the same time whether there is somebody or not.
            user = holder
        if user is None or not user.is_active or (mail.kind in {"reset", "verify"} and user.email != mail.address):
            return None
        if mail.user_id is None:
            await crud.change(session, mail.id, user_id=user.id)
            await audit.add(
                session, Actor.nobody(request_id=mail.request_id), action="user.send_reset", target="user",
                target_id=user.id, detail={"email": mail.address, "address": mail.detail.get("address", "")},
            )  # fmt: skip
        return Whom(user, holder)

    def _letter(self, mail: Mail, whom: Whom) -> EmailMessage:
        url = self._runtime.settings.public_url
        name = mail.kind
        if whom.holder is not None and whom.holder is not whom.user and mail.kind in {"register", "invite", "change"}:
            name = "taken"
        values = {
            "site": urlsplit(url).netloc,
            "address": mail.address,
            # Whoever reads the mail must know whose account gets the address.
            "account": "" if whom.user is None else whom.user.handle,
            "asked": f"{mail.created_at.astimezone(UTC):%d %B %Y, %H:%M} UTC",
            "page": f"{url}/reset-password",
            # In the fragment: no log, proxy or Referer sees it.
            "link": f"{url}/{PAGES.get(mail.kind, '')}#{token(mail, whom.user, self._key)}",
        }
        return letter(
            name, mail_id=mail.id, sender=self._sender.address, to=mail.address, at=datetime.now(UTC), values=values
        )

    async def _note_failure(self, mail: Mail, error: NotSent) -> None:
        is_over = error.is_final or mail.attempts >= crud.ATTEMPTS
        delay = min(FIRST_DELAY * 2 ** (mail.attempts - 1), LONGEST_DELAY)
        self.tally.failed += 1
        self.tally.last_error = str(error)
        then = "it is given up" if is_over else f"tried again in {delay} seconds"
        log.warning("mail %s (%s) was not sent: %s; %s", mail.id, mail.kind, error, then)
        try:
            async with self._runtime.transaction() as session:
                later = None if is_over else timedelta(seconds=delay)
                await crud.note_failure(session, mail.id, error=str(error), delay=later)
        except Exception as unnoted:  # noqa: BLE001 - one mail ends no other; it is due when its lease is over
            log.warning("mail %s: %s", mail.id, getattr(unnoted, "detail", repr(unnoted)))


@asynccontextmanager
async def working(runtime: Runtime, key: bytes) -> AsyncIterator[None]:
    """Send mails beside whatever is done in a `with` block; at its end, those in hand have some seconds."""
    worker = Worker(runtime, key)
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        with suppress(TimeoutError):
            await asyncio.wait_for(running, LAST)
