"""What is done once, however often it is sent: draft-ietf-httpapi-idempotency-key-header-07, for both doors.

A connection that is cut after the commit, and before the answer, leaves its sender in doubt. Under the same key they
send it again: the first time, the key is stored in the transaction of what was asked for; every other time, it is the
stored answer that they get. What failed is not stored, since it has left nothing behind.
"""

import hashlib
import hmac
import re
from datetime import timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from api.core.actor import Actor, scopes_named
from api.core.errors import ApictlError, BadRequest, Kind, NotAuthenticated
from api.core.sealing import seal, unseal
from api.idempotency import crud

KEPT: Final = timedelta(hours=24)
# As long as it takes that nobody guesses it: it is what the stored answer is sealed with. A UUID has 36.
KEY: Final = re.compile(r"[!#-\[\]-~]{16,255}")
PURPOSE: Final = "idempotency-key"


class IdempotencyKeyReused(ApictlError):
    """The key stands for another request."""

    kind = Kind.INVALID
    code = "idempotency-key-reused"
    title = "This idempotency key was used for something else"
    default_hint = "a new request needs a new key; the same key is for sending the same request again"


class RequestInProgress(ApictlError):
    """The same key is being worked on."""

    kind = Kind.CONFLICT
    code = "request-in-progress"
    title = "The same request is under way"
    default_hint = "send it again in a moment, with the same key: it will show what came of it"
    default_retry_after = 1


def checked_key(text: str) -> str:
    """Return the key of a header or an option; the draft's quotes are there, or are not.

    Raises:
        BadRequest: It is no key.
    """
    key = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if not KEY.fullmatch(key):
        raise BadRequest(
            "The idempotency key must have 16 to 255 characters of ASCII, without spaces and quotes",
            hint="make a UUID for each request",
        )
    return key


class Once:
    """One request or command, under a key of its sender's."""

    def __init__(self, session: AsyncSession, actor: Actor, key: str, *asked: bytes) -> None:
        """Begin; `asked` is all that makes it this request and no other.

        Raises:
            BadRequest: It is no key.
            NotAuthenticated: Nobody is asking.
        """
        if actor.is_nobody:
            raise NotAuthenticated
        key = checked_key(key)
        # Operators are one: the next attempt of a CI job has another name.
        whose = "operator" if actor.user_id is None else str(actor.user_id)
        self._session = session
        self._actor = actor
        self._digest = hashlib.sha256(f"{whose} {key}".encode()).digest()
        self._secret = hashlib.sha256(f"{PURPOSE} {whose} {key}".encode()).digest()
        # A password may be a part of it, and easier to guess than the key.
        fingerprint = hmac.new(self._secret, digestmod="sha256")
        for part in asked:
            fingerprint.update(len(part).to_bytes(8) + part)
        self._fingerprint = fingerprint.digest()

    async def find(self) -> bytes | None:
        """Return what was answered when it was done; None: it is to be done now, and then `keep`.

        Raises:
            RequestInProgress: It is being done.
            IdempotencyKeyReused: What was done under this key was something else.
            MissingScope: Whoever did it could do more than the actor can.
        """
        if not await crud.take_turn(self._session, self._digest):
            raise RequestInProgress
        found = await crud.by_digest(self._session, self._digest)
        if found is None:
            return None
        if not hmac.compare_digest(found.fingerprint, self._fingerprint):
            raise IdempotencyKeyReused
        kept = unseal(found.answer, self._secret, purpose=PURPOSE)
        assert kept is not None  # noqa: S101 - the fingerprint is of the same secret
        scopes, _, answer = kept.partition(b"\n")
        # An answer can be a new API key: whoever came with less by then, or comes with less now, is not shown it.
        self._actor.require(*scopes_named(scopes.decode().split()))
        return answer

    async def keep(self, answer: bytes) -> None:
        """Store what is answered, in the transaction of what was done.

        Raises:
            RequestInProgress: Another one was first; this one is to be undone.
        """
        scopes = " ".join(sorted(self._actor.scopes)).encode()
        sealed = seal(scopes + b"\n" + answer, self._secret, purpose=PURPOSE)
        is_first = await crud.add(
            self._session, digest=self._digest, fingerprint=self._fingerprint, answer=sealed, kept=KEPT
        )
        if not is_first:
            raise RequestInProgress
