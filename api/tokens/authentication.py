"""Who stands behind a bearer credential, now: an access token, or an API key."""

import hmac
import logging
import time
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final
from uuid import UUID

from api.api_keys import crud as api_keys
from api.api_keys.secret import PREFIX, ApiKeySecret
from api.core.actor import Actor, Powers
from api.core.runtime import Runtime
from api.signing_keys.ring import fresh
from api.tokens import crud
from api.tokens.keys import Claims, InvalidToken, Keys, UnknownKey

log: Final = logging.getLogger("apictl")


@dataclass(frozen=True, slots=True)
class Client:
    """What is known of the program that asks for tokens."""

    user_agent: str
    address: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who holds a credential: as an actor, what they are called, what kind of account it is, and when it ends."""

    actor: Actor
    handle: str
    kind: str
    expires: int | None


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

    async def _behind_session(self, claims: Claims, session_id: UUID, client: Client, *, used: bool) -> Bearer:
        async with self._runtime.transaction(readonly=True) as session:
            row = await crud.identity(session, session_id, claims.user_id)
            if row is None:
                raise InvalidToken
            if row.unnoted and used:
                await crud.note_use(session, session_id)
        scopes = Powers(is_superuser=row.is_superuser, roles=row.roles, granted=row.scopes).scopes
        actor = Actor(
            name=row.handle,
            scopes=scopes if claims.scope is None else scopes & claims.scope,
            door="http",
            user_id=claims.user_id,
            session_id=session_id,
            narrowed=row.scopes is not None or claims.scope is not None,
            request_id=client.request_id,
        )
        return Bearer(actor, row.handle, row.kind, claims.expires)

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
        async with self._runtime.transaction(readonly=True) as session:
            row = await api_keys.identity(session, key_id)
            if row is None or (digest is not None and not hmac.compare_digest(row.digest, digest)):
                raise InvalidToken
            if claims is not None and claims.user_id != row.user_id:
                raise InvalidToken
            require_network(row, key_id, client)
            if row.unnoted and used:
                await api_keys.note_use(session, key_id, address=client.address)
        scopes = Powers(is_superuser=row.is_superuser, roles=row.roles, granted=row.scopes).scopes
        actor = Actor(
            name=f"{row.handle} key {key_id}",
            scopes=scopes if claims is None or claims.scope is None else scopes & claims.scope,
            door="http",
            user_id=row.user_id,
            api_key_id=key_id,
            showed_key=claims is None,
            narrowed=True,
            request_id=client.request_id,
        )
        ends = None if row.expires_at is None else int(row.expires_at.timestamp())
        return Bearer(actor, row.handle, row.kind, ends if claims is None else claims.expires)


def require_network(row: Any, key_id: UUID, client: Client) -> None:
    """Let a key pass that is used from where it may be.

    Raises:
        InvalidToken: It is not; the log says so.
    """
    if row.networks is not None and not is_within(client.address, row.networks):
        log.warning("%s API key %s refused: used from %s", client.request_id, key_id, client.address)
        raise InvalidToken


def is_within(address: str, networks: list[str]) -> bool:
    """Tell whether an address is in one of the networks; what is no address is in none."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    # An IPv4 client of a socket that takes both arrives as ::ffff:192.0.2.1.
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in ip_network(network) for network in networks)
