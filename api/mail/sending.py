"""How a mail leaves: to an SMTP server, or into a folder. What to do when it does not is not known here."""

import asyncio
import os
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

# By default (`start_tls=None`) it upgrades where the server offers it, and goes on in plain text where somebody in
# between has cut the offer out; and its `timeout` is for each step, of which a server can make as many as it likes.
import aiosmtplib

from api.config import Settings
from api.core.errors import ApictlError, Kind

# Seconds for all of it.
PATIENCE: Final = 20


class MailUnset(ApictlError):
    """Nobody has said how mail is sent."""

    kind = Kind.MISCONFIGURED
    code = "mail-unset"
    title = "No mail can be sent from here"
    default_hint = "set APICTL_SMTP_URL, as smtps://user:password@mail.example.com"


class MailNotSent(ApictlError):
    """A mail server did not take what was to be sent."""

    kind = Kind.UNAVAILABLE
    code = "mail-not-sent"
    title = "Some mail was not sent"
    default_hint = "unless it was refused for good, it is tried again for two hours: apictl work, or a server, does it"


class NotSent(Exception):
    """A mail did not leave, and why.

    Attributes:
        is_final: Whether the server has refused this very mail: it would again.
    """

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        self.is_final = is_final
        # One line, and not a page; a server may say it in any bytes, of which not all can be stored.
        text = "".join(character if character.isprintable() else " " for character in reason)
        super().__init__(" ".join(text.split())[:300])


class Sender:
    """Sends mails the way that the settings say."""

    def __init__(self, settings: Settings) -> None:
        """Look at the settings; nothing is opened.

        Raises:
            MailUnset: They do not say how.
        """
        if settings.mail_url is None:
            raise MailUnset
        self._url = urlsplit(settings.mail_url.get_secret_value())
        self.address = sender_address(settings)

    async def send(self, message: EmailMessage) -> None:
        """Send a mail; when this returns, a server has taken it.

        Raises:
            NotSent: None has.
        """
        if self._url.scheme == "file":
            await asyncio.to_thread(write, message, Path(unquote(self._url.path)))
            return
        client = aiosmtplib.SMTP(
            hostname=self._url.hostname,
            port=self._url.port,
            username=unquote(self._url.username) if self._url.username else None,
            password=unquote(self._url.password or "") if self._url.username else None,
            # By default it asks for the name of this machine, which may not answer, and is nobody's business.
            local_hostname=self.address.domain,
            use_tls=self._url.scheme == "smtps",
            start_tls=self._url.scheme == "smtp+starttls",
            timeout=PATIENCE,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                await client.connect()
                # Who it is from and to, and nothing that a header of it could say.
                to = message["To"].addresses[0].addr_spec
                await client.send_message(message, sender=self.address.addr_spec, recipients=[to])
        except TimeoutError:
            raise NotSent(f"the server took longer than {PATIENCE} seconds") from None
        except aiosmtplib.SMTPRecipientsRefused as error:
            refused = error.recipients[0]
            raise NotSent(f"{refused.code} {refused.message}", is_final=refused.code >= 500) from None
        except aiosmtplib.SMTPDataError as error:
            raise NotSent(f"{error.code} {error.message}", is_final=error.code >= 500) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise NotSent(f"{type(error).__name__}: {error}") from None
        finally:
            # Without QUIT: a server that has taken the mail, and does not answer that, would be sent it again.
            client.close()


def sender_address(settings: Settings) -> Address:
    """Return whom mails are from: without a setting, nobody at the host of the public URL."""
    if settings.mail_from is not None:
        name, _, address = settings.mail_from.rpartition("<")
        return Address(name.strip(), addr_spec=address.removesuffix(">"))
    return Address("", "no-reply", urlsplit(settings.public_url).hostname or "localhost")


def write(message: EmailMessage, folder: Path) -> None:
    """Keep a mail as a file that only its owner can read: while developing, that is all it takes to follow a link.

    Raises:
        NotSent: It cannot be written.
    """
    path = folder / f"{message['Message-ID'][1:].partition('@')[0]}.eml"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = path.with_suffix(".new")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(message.as_bytes())
        scratch.rename(path)
    except OSError as error:
        raise NotSent(f"{path} cannot be written: {error.strerror}") from None
