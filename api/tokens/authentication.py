"""Who stands behind a bearer credential, now: an access token, or an API key."""

import asyncio
import hmac
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final
from uuid import UUID

import asyncpg

from api.api_keys import crud as api_keys
from api.api_keys.secret import PREFIX, ApiKeySecret
from api.core.actor import Actor
from api.core.direct import Statement
from api.core.errors import ApictlError
from api.core.runtime import Runtime
from api.signing_keys.ring import fresh
from api.tokens import crud
from api.tokens.keys import Claims, Keys, UnknownKey
from api.tokens.refusals import InvalidToken
from api.urls import ip_of
from api.users.accounts import account, handle, scopes
from api.users.schemas import UserRead

# Seconds that somebody waits, at most, for it to be noted that they were here.
NOTING: Final = 1.0
log: Final = logging.getLogger("apictl")


@dataclass(frozen=True, slots=True)
class Client:
    """What is known of the program that asks for tokens."""

    user_agent: str
    address: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who holds a credential: as an actor, and when the credential ends."""

    actor: Actor
    expires: int | None
    _row: asyncpg.Record

    @property
    def user(self) -> UserRead:
        """Their account as it is now."""
        return account(self._row)


class Authentication:
    """Turns credentials into actors; a statement each, besides the once a second that reads the signing keys."""

    def __init__(self, runtime: Runtime, keys: Keys) -> None:
        self._runtime = runtime
        self._keys = keys

    async def bearer(self, credential: str, *, client: Client, used: bool = True) -> Bearer:
        """Return who stands behind an access token or an API key now: it is live, and its user active.

        Args:
            credential: The token or key.
            client: Who sent it.
            used: Note that it was used, and from where; not if somebody only asks about it.

        Raises:
            InvalidToken: It is not good, or no longer, or not from there; one answer for every reason.
        """
        if credential.startswith(PREFIX):
            secret = ApiKeySecret.parse(credential)
            if secret is None:
                raise InvalidToken
            return await self._behind_api_key(secret.id, client, digest=secret.digest, used=used)
        claims = await self.verified(credential)
        if claims.session_id is not None:
            return await self._behind_session(claims, claims.session_id, client, used=used)
        assert claims.api_key_id is not None  # noqa: S101 - it hangs on one of the two
        return await self._behind_api_key(claims.api_key_id, client, claims=claims, used=used)

    async def verified(self, access_token: str) -> Claims:
        """Return what an access token says, whether or not what it hangs on is live.

        Raises:
            InvalidToken: It is not good; one answer for every reason.
        """
        since = time.monotonic()
        try:
            return self._keys.verify(access_token)
        except UnknownKey:
            # Made a moment ago, by another process that signs with it already?
            await fresh(self._keys, self._runtime, since=since)
        try:
            return self._keys.verify(access_token)
        except UnknownKey:
            raise InvalidToken from None

    async def _note(self, statement: Statement, **values: Any) -> None:
        """Note a use, if that can be noted: a database that takes no writes, for now, can still be read."""
        with suppress(ApictlError, TimeoutError):
            async with asyncio.timeout(NOTING):
                await self._runtime.direct.fetch(statement, **values)

    async def _behind_session(self, claims: Claims, session_id: UUID, client: Client, *, used: bool) -> Bearer:
        row = await self._runtime.direct.look_up(crud.IDENTITIES, session_id)
        if row is None or row["id"] != claims.user_id:
            raise InvalidToken
        if row["unnoted"] and used:
            await self._note(crud.NOTE_USE, session_id=session_id)
        held = scopes(row)
        actor = Actor(
            name=handle(row),
            scopes=held if claims.scope is None else held & claims.scope,
            door="http",
            user_id=claims.user_id,
            session_id=session_id,
            narrowed=row["granted"] is not None or claims.scope is not None,
            request_id=client.request_id,
        )
        return Bearer(actor, claims.expires, row)

    async def _behind_api_key(
        self,
        key_id: UUID,
        client: Client,
        *,
        digest: bytes | None = None,
        claims: Claims | None = None,
        used: bool,
    ) -> Bearer:
        """Return who is behind a key whose secret was shown, or a token that was got for it."""
        row = await self._runtime.direct.look_up(api_keys.IDENTITIES, key_id)
        if row is None or (digest is not None and not hmac.compare_digest(row["digest"], digest)):
            raise InvalidToken
        if claims is not None and claims.user_id != row["id"]:
            raise InvalidToken
        require_network(row["networks"], key_id, client)
        if row["unnoted"] and used:
            await self._note(api_keys.NOTE_USE, key_id=key_id, address=client.address)
        held = scopes(row)
        actor = Actor(
            name=f"{handle(row)} key {key_id}",
            scopes=held if claims is None or claims.scope is None else held & claims.scope,
            door="http",
            user_id=row["id"],
            api_key_id=key_id,
            showed_key=claims is None,
            narrowed=True,
            request_id=client.request_id,
        )
        ends = None if row["expires_at"] is None else int(row["expires_at"].timestamp())
        return Bearer(actor, ends if claims is None else claims.expires, row)


def require_network(networks: list[str] | None, key_id: UUID, client: Client) -> None:
    """Let a key pass that is used from where it may be.

    Raises:
        InvalidToken: It is not; the log says so.
    """
    if networks is not None and not is_within(client.address, networks):
        log.warning("%s API key %s refused: used from %s", client.request_id, key_id, client.address)
        raise InvalidToken


def is_within(address: str, networks: list[str]) -> bool:
    """Tell whether an address is in one of the networks; what is no address is in none."""
    found = ip_of(address)
    return found is not None and any(found in ip_network(network) for network in networks)
