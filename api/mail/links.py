"""The secret of the link in a mail: pure functions, no clock and no database."""

import base64
import hashlib
import hmac
import json
import re
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

from api.mail.models import Mail
from api.users.models import User

# `changed` has no link: it tells somebody what happened.
Kind = Literal["register", "invite", "verify", "change", "reset", "changed"]
LIFETIME: Final = timedelta(minutes=15)
PREFIX: Final = "apictl_link_"
FORM: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{64}}", re.ASCII)
ID_BYTES: Final = 16


def token(mail: Mail, user: User | None, key: bytes) -> str:
    """Return the secret of a mail's link.

    It is an HMAC over what it is bound to: the mail, its purpose and address, and the account as it is, with its
    address and its password. As one of them changes, the secret is another, and what was sent is good no more.
    """
    account = None if user is None else [str(user.id), user.email, user.password_hash]
    bound = json.dumps([str(mail.id), mail.kind, mail.address, account]).encode()
    made = hmac.new(key, bound, hashlib.sha256).digest()
    return PREFIX + base64.urlsafe_b64encode(mail.id.bytes + made).decode()


def mail_id(text: str) -> UUID | None:
    """Return which mail a secret is of; None if it has not the form of one."""
    if not FORM.fullmatch(text):
        return None
    return UUID(bytes=base64.urlsafe_b64decode(text.removeprefix(PREFIX))[:ID_BYTES])


def is_right(text: str, mail: Mail, user: User | None, key: bytes) -> bool:
    """Tell whether this is the secret of the mail's link, as things are now."""
    return hmac.compare_digest(text, token(mail, user, key))
