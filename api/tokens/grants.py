"""The OAuth 2.0 grants (RFC 6749): credentials in, tokens out.

Each opens its own transactions, unlike a service: no connection may wait for a password hash, and what a replay ends
must stay ended although the request is refused.
"""

import asyncio
import time
from contextlib import suppress
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys.secret import PREFIX
from api.audit import crud as audit
from api.config import Settings
from api.core.actor import Actor, Scope
from api.core.runtime import Runtime
from api.factors import crud as factors
from api.factors.check import Proof, TooManyGuesses, is_right, passkey_of
from api.factors.codes import CHALLENGE_FORM, digest, new_mfa_token
from api.factors.passkeys import LOGIN, Site, about_login, new_challenge, request_options
from api.factors.schemas import PasskeyOptions
from api.tokens import crud
from api.tokens.authentication import Authentication, Bearer, Client
from api.tokens.crud import Family
from api.tokens.keys import InvalidToken, Keys
from api.tokens.refusals import (
    KNOWN_SCOPES,
    NEXT_STEP,
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    MfaRequired,
    UnauthorizedClient,
)
from api.tokens.schemas import TokenIssued
from api.tokens.secret import RefreshToken
from api.tokens.service import issue
from api.users import crud as users
from api.users.models import User
from api.users.records import powers_of
from api.users.schemas import canonical_email


class PasswordChanged(Exception):
    """The hash that was verified is not the user's any more, or the user is not active."""


class Grants:
    """Turns credentials into tokens."""

    def __init__(self, runtime: Runtime, keys: Keys) -> None:
        self._runtime = runtime
        self._transaction = runtime.transaction
        self._passwords = runtime.passwords
        self._keys = keys
        self._settings = runtime.settings

    async def by_password(
        self, username: str, password: str, *, otp: str | None = None, scope: str | None, client: Client
    ) -> TokenIssued:
        """Log a user in.

        Raises:
            InvalidGrant: Unknown address, wrong password, no password, or a deactivated user: indistinguishable, also
                by the time it takes.
            InvalidScope: The user holds none of the scopes.
            MfaRequired: The password is right, and a second factor is asked for.
            TooManyGuesses: The second factor came with it, and the user has to wait.
            Busy: Too many passwords are being checked.
        """
        # Twice: another login may just have brought the hash up to date.
        for _ in range(2):
            with suppress(PasswordChanged):
                return await self._by_password(username, password, otp=otp, scope=scope, client=client)
        raise InvalidGrant

    async def _by_password(
        self, username: str, password: str, *, otp: str | None, scope: str | None, client: Client
    ) -> TokenIssued:
        async with self._transaction(readonly=True) as session:
            user = await users.by_email(session, email_or_nobody(username))
        stored = user.password_hash if user is not None else None
        verified = await self._passwords.verify(password, stored)
        if user is None or stored is None or not verified.ok:
            raise InvalidGrant
        # What cannot be signed must not be written down as issued.
        self._keys.require_signing()
        async with self._transaction() as session:
            asked_for = await factors.is_asked_for(session, user.id)
            if not asked_for:
                return await self._begin(session, user.id, stored, rehash=verified.rehash, scope=scope, client=client)
            challenge = new_mfa_token()
            await factors.add_challenge(
                session, digest=digest(challenge), user_id=user.id, verified_hash=stored, scope=scope or ""
            )
        if otp is None:
            raise MfaRequired(mfa_token=challenge, hint=NEXT_STEP)
        return await self.by_second_factor(challenge, Proof(otp=otp), client=client)

    async def by_second_factor(self, challenge: str, proof: Proof, *, client: Client) -> TokenIssued:
        """Go on with a login whose password was right.

        Raises:
            InvalidGrant: There is no such login, or it took too long, or the second factor is not right.
            TooManyGuesses: The user has to wait.
        """
        if not CHALLENGE_FORM.fullmatch(challenge):
            raise InvalidGrant
        self._keys.require_signing()
        refused: TooManyGuesses | InvalidScope | None = None
        async with self._transaction() as session:
            await factors.lock_challenged(session, digest(challenge))
            found = await factors.try_challenge(session, digest(challenge))
            if found is not None:
                try:
                    right = await is_right(session, found.user_id, self._keys, proof, about=about_login(challenge))
                except TooManyGuesses as error:
                    right, refused = False, error
                if right:
                    await factors.remove_challenge(session, found.digest)
                    try:
                        return await self._begin(
                            session, found.user_id, found.verified_hash, rehash=None, scope=found.scope, client=client
                        )
                    except PasswordChanged:
                        raise InvalidGrant from None
                    except InvalidScope as error:
                        refused = error
        # Only out here, when the attempt is counted, and what was shown is used up.
        if refused is not None:
            raise refused
        if found is not None:
            raise InvalidGrant("The second factor is not right")
        raise InvalidGrant("No login waits for this mfa_token", hint="log in again: it is good for five minutes")

    async def passkey_options(self, mfa_token: str | None) -> PasskeyOptions:
        """Make what a browser asks a passkey with: alone, or after a right password.

        Raises:
            InvalidGrant: There is no such login that waits for a second factor, or its user has no passkey.
            BadSettings: Browsers offer no passkeys at this deployment's URL.
        """
        allowed: list[bytes] = []
        if mfa_token is not None:
            async with self._transaction(readonly=True) as session:
                allowed = await factors.passkeys_for(session, digest(mfa_token))
            if not allowed:
                raise InvalidGrant("No login with a passkey waits for this mfa_token")
        about = LOGIN if mfa_token is None else about_login(mfa_token)
        challenge = new_challenge(self._keys.challenges, about, now=self._keys.now().timestamp())
        options = await asyncio.to_thread(request_options, Site.of(self._keys.issuer), challenge, allowed=allowed)
        return PasskeyOptions(options=options)

    async def by_passkey(self, credential: str, *, scope: str | None, client: Client) -> TokenIssued:
        """Log in whoever a passkey belongs to; its authenticator has asked them for a PIN or a finger.

        Raises:
            InvalidGrant: No passkey of an active user has signed a challenge of ours just now, and for the first time.
            InvalidScope: The user holds none of the scopes.
            BadSettings: Browsers offer no passkeys at this deployment's URL.
        """
        self._keys.require_signing()
        async with self._transaction() as session:
            factor = await passkey_of(session, credential, self._keys, about=LOGIN)
            user = None if factor is None else await users.record_login(session, factor.user_id, verified_hash=None)
            if user is None:
                raise InvalidGrant
            return await begin_session(
                session, user, scope=scope, client=client, keys=self._keys, settings=self._settings, by="passkey"
            )

    async def _begin(
        self,
        session: AsyncSession,
        user_id: UUID,
        verified_hash: str,
        *,
        rehash: str | None,
        scope: str | None,
        client: Client,
    ) -> TokenIssued:
        """Begin a session for a user who has shown all that was asked for.

        Raises:
            PasswordChanged: Not the one who was asked, any more.
        """
        # Fails if the user was deactivated, or the password changed, while it was being verified.
        user = await users.record_login(session, user_id, verified_hash=verified_hash, rehash=rehash)
        if user is None:
            raise PasswordChanged
        return await begin_session(session, user, scope=scope, client=client, keys=self._keys, settings=self._settings)

    async def by_refresh_token(self, text: str, *, scope: str | None, client: Client) -> TokenIssued:
        """Rotate a refresh token.

        Using one twice within the grace period gives the same successor twice (a lost answer, two open tabs); later
        than that it is a replay, which ends the whole family (RFC 9700, section 4.14.2).

        Raises:
            InvalidGrant: The token is unknown, used up, expired or revoked, or its user is deactivated.
            InvalidScope: The session holds none of the scopes.
        """
        token = RefreshToken.decode(text, self._keys.refresh)
        if token is None:
            raise InvalidGrant
        found = await self._family(token)
        if found.session.rotation == token.rotation:
            # Before the token is used up: its owner could not have the next one.
            self._keys.require_signing()
            narrowed = requested_scopes(scope, found.powers.scopes)
            async with self._transaction() as session:
                moved = await crud.rotate(session, token.session_id, rotation=token.rotation)
            if moved is not None:
                return self._successor(found, token, narrowed)
            # Another was faster.
            found = await self._family(token)
        if found.session.rotation == token.rotation + 1 and found.in_grace:
            return self._successor(found, token, requested_scopes(scope, found.powers.scopes))
        if found.session.rotation > token.rotation:
            await self._replayed(found, token, client)
        raise InvalidGrant

    async def _family(self, token: RefreshToken) -> Family:
        """Read what a refresh token descends from: all that most uses of one that was used already need."""
        async with self._transaction(readonly=True) as session:
            found = await crud.family(session, token.session_id, grace=self._settings.refresh_grace)
        if found is None:
            raise InvalidGrant
        return found

    def _successor(self, found: Family, token: RefreshToken, narrowed: frozenset[Scope] | None) -> TokenIssued:
        found.session.rotation = token.rotation + 1
        scopes = found.powers.scopes if narrowed is None else narrowed
        return issue(found.session, scopes, self._keys, self._settings, narrowed=narrowed)

    async def _replayed(self, found: Family, token: RefreshToken, client: Client) -> None:
        """End the family, in a transaction that is over before the request is refused."""
        async with self._transaction() as session:
            await crud.revoke(session, token.session_id, because="refresh token replayed")
            await audit.add(
                session,
                Actor.nobody(request_id=client.request_id),
                action="session.replay",
                target="session",
                target_id=token.session_id,
                detail={"address": client.address, "used": token.rotation, "current": found.session.rotation},
            )

    async def by_client_credentials(
        self, client_id: str, client_secret: str, *, scope: str | None, client: Client
    ) -> TokenIssued:
        """Give a service account an access token for one of its API keys, with which the token ends.

        Raises:
            InvalidClient: The id or the secret is not right.
            UnauthorizedClient: The key is a person's.
            InvalidScope: The key holds none of the scopes.
        """
        bearer = await self.by_client(client_id, client_secret, client=client)
        if bearer.kind != "service":
            raise UnauthorizedClient("The API key is a person's", hint="send it as a bearer token, as it is")
        asked = requested_scopes(scope, bearer.actor.scopes)
        ttl = self._settings.access_token_ttl
        if bearer.expires is not None:
            ttl = max(1, min(ttl, bearer.expires - int(time.time())))
        assert bearer.actor.user_id is not None  # noqa: S101 - a key has an owner
        token = self._keys.sign(
            user_id=bearer.actor.user_id,
            api_key_id=bearer.actor.api_key_id,
            client_id=bearer.handle,
            ttl=ttl,
            scope=asked,
        )
        scopes = bearer.actor.scopes if asked is None else asked
        return TokenIssued(access_token=token, expires_in=ttl, scope=" ".join(sorted(scopes)) or None)

    async def by_client(self, client_id: str, client_secret: str, *, client: Client) -> Bearer:
        """Return who an OAuth client is: its id an account's name, address or id, its secret one of its API keys.

        Raises:
            InvalidClient: One of them is not right.
        """
        # An access token is no secret of a client's, whatever it opens.
        if not client_secret.startswith(PREFIX):
            raise InvalidClient
        try:
            bearer = await Authentication(self._runtime, self._keys).bearer(client_secret, client=client)
        except InvalidToken:
            raise InvalidClient from None
        if client_id not in {bearer.handle, str(bearer.actor.user_id)}:
            raise InvalidClient
        return bearer


async def begin_session(
    session: AsyncSession,
    user: User,
    *,
    scope: str | None,
    client: Client,
    keys: Keys,
    settings: Settings,
    label: str = "",
    **detail: str,
) -> TokenIssued:
    """Begin a session of somebody who has shown all that was asked for; `detail` goes into its audit entry.

    Raises:
        InvalidScope: The user holds none of the scopes.
    """
    powers = await powers_of(session, user)
    asked = requested_scopes(scope, powers.scopes)
    row = await crud.add(
        session,
        user_id=user.id,
        ttl=settings.session_ttl,
        scopes=None if asked is None else sorted(asked),
        label=label,
        user_agent=client.user_agent,
        address=client.address,
    )
    actor = Actor(name=user.handle, scopes=powers.scopes, door="http", user_id=user.id, request_id=client.request_id)
    entry = {"user": user.handle, **detail}
    await audit.add(session, actor, action="session.login", target="session", target_id=row.id, detail=entry)
    return issue(row, powers.scopes if asked is None else asked, keys, settings)


def email_or_nobody(username: str) -> str:
    """Return the canonical address, or one that nobody can have: the same statement runs for both."""
    try:
        return canonical_email(username)
    except ValueError:
        return ""


def requested_scopes(scope: str | None, held: frozenset[Scope]) -> frozenset[Scope] | None:
    """Return those of the scopes asked for that can be granted; None if none was asked for.

    Raises:
        InvalidScope: None of them can be granted.
    """
    if not scope:
        return None
    wanted = held.intersection(scope.split())
    if not wanted:
        raise InvalidScope(hint=KNOWN_SCOPES)
    return wanted
