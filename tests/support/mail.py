"""Mail servers that take mails, refuse them, keep silent, or die in the middle; and what they were sent."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from typing import Any, Final

from aiosmtpd.smtp import SMTP

from api.config import Settings
from api.core.runtime import Runtime
from api.mail.worker import Worker
from api.tokens.keys import Keys

LINK: Final = re.compile(r"https?://\S+?/(?P<page>[a-z-]+)#(?P<token>apictl_link_[A-Za-z0-9_-]{64})")


class MailServer:
    """A real SMTP server of this process.

    Attributes:
        mails: What it has taken, with the addresses of the envelope.
        answer: What it says at the end of a mail; `None`: nothing, for ever; `cut`: it hangs up.
        refuses: What it says to every recipient.
        hold: What it waits for before it says so.
        held: A mail came whole.
    """

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.answer: str | None = "250 taken"
        self.refuses: str | None = None
        self.url = ""
        self.hold: asyncio.Event | None = None
        self.held = asyncio.Event()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        del server, session, options
        if self.refuses is not None:
            return self.refuses
        envelope.rcpt_tos.append(address)
        return "250 right"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        del session
        self.held.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.answer is None:
            await asyncio.Event().wait()
        if self.answer == "cut":
            server.transport.abort()
            return "250 nobody hears it"
        if self.answer is not None and self.answer.startswith("250"):
            message = message_from_bytes(envelope.content, policy=policy.SMTP)
            assert isinstance(message, EmailMessage)
            self.mails.append((envelope.rcpt_tos, message))
        return self.answer or ""

    def link(self, number: int = -1) -> tuple[str, str]:
        """Return the page and the secret of the link in a mail."""
        found = LINK.search(text_of(self.mails[number][1]))
        assert found is not None, text_of(self.mails[number][1])
        return found["page"], found["token"]

    @property
    def subjects(self) -> list[tuple[str, str]]:
        """To whom, and about what, in the order in which they came."""
        return [(to[0], message["Subject"]) for to, message in self.mails]


@asynccontextmanager
async def mail_server(*, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[MailServer]:
    """Run one on a free port; with `tls`, encrypted from the first byte. `options` are aiosmtpd's."""
    handler = MailServer()
    loop = asyncio.get_running_loop()
    made = partial(SMTP, handler, enable_SMTPUTF8=False, **options)
    server = await loop.create_server(made, "127.0.0.1", 0, ssl=tls)
    async with server:
        handler.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield handler


def text_of(message: EmailMessage) -> str:
    """Return the plain text of a mail."""
    part = message.get_body(("plain",))
    assert part is not None
    text: str = part.get_content()
    return text


def worker_of(runtime: Runtime, settings: Settings) -> Worker:
    """Return a worker as `apictl work` has it."""
    return Worker(runtime, Keys.load(settings).links)
