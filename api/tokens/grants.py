"""The OAuth 2.0 grants (RFC 6749): credentials in, tokens out.

Each opens its own transactions, unlike a service: no connection may wait for a password hash, and what a replay ends
must stay ended although the request is refused.
"""

import time
from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

from api.api_keys.secret import PREFIX
from api.audit import crud as audit
from api.audit.noting import entry
from api.core.actor import Actor
from api.core.ids import uuid7
from api.core.runtime import Runtime
from api.core.sealing import digest
from api.factors import crud as factors
from api.factors.check import Proof
from api.factors.codes import new_mfa_token
from api.factors.grant import FactorGrant
from api.throttle.service import Throttle
from api.tokens import crud
from api.tokens.authentication import Authentication, Bearer, Client
from api.tokens.keys import Keys
from api.tokens.refusals import (
    NEXT_STEP,
    InvalidClient,
    InvalidGrant,
    InvalidToken,
    MfaRequired,
    UnauthorizedClient,
)
from api.tokens.schemas import TokenIssued
from api.tokens.secret import RefreshToken
from api.tokens.service import Family, issue
from api.tokens.sessions import begin_session, requested_scopes
from api.users import crud as users
from api.users.accounts import scopes as scopes_of
from api.users.schemas import canonical_email

# The same for every reason.
FORGOTTEN: Final = "check address and password; whoever has forgotten it has a link sent: /reset-password"


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
        self._factors = FactorGrant(runtime, keys)

    async def by_password(
        self, username: str, password: str, *, otp: str | None = None, scope: str | None, client: Client
    ) -> TokenIssued:
        """Log a user in.

        Raises:
            InvalidGrant: Unknown address, wrong password, no password, or a deactivated user: indistinguishable, also
                by the time it takes.
            InvalidScope: The user holds none of the scopes.
            MfaRequired: The password is right, and a second factor is asked for.
            TooManyAttempts: The account, or whoever asks, has to wait; that is no attempt.
            TooManyGuesses: The second factor came with it, and the user has to wait.
            Busy: Too many passwords are being checked.
        """
        # Twice: another login may just have brought the hash up to date.
        for _ in range(2):
            with suppress(PasswordChanged):
                return await self._by_password(username, password, otp=otp, scope=scope, client=client)
        raise await self._refused(None, client)

    async def _by_password(
        self, username: str, password: str, *, otp: str | None, scope: str | None, client: Client
    ) -> TokenIssued:
        # Before anything is asked: of five hundred at once, most are sent away.
        self._passwords.require_room()
        email = email_or_nobody(username)
        async with Throttle(self._runtime, client.address).attempt(email) as attempt:
            user = await self._runtime.direct.fetch_one(users.CREDENTIALS, email=email)
            stored = user["password_hash"] if user is not None else None
            verified = await self._passwords.verify(password, stored)
            attempt.is_right = user is not None and verified.ok and user["is_active"]
        if user is None or stored is None or not attempt.is_right:
            raise await self._refused(None if user is None else user["id"], client)
        user_id = user["id"]
        # What cannot be signed must not be written down as issued.
        self._keys.require_signing()
        if verified.rehash is None and not scope:
            # As most logins are: one statement, which does nothing where more is to be asked.
            begun = await self._runtime.direct.fetch_one(
                crud.BEGIN,
                owner_id=user_id,
                verified_hash=stored,
                session_id=uuid7(),
                lifetime=timedelta(seconds=self._settings.session_ttl),
                user_agent=client.user_agent,
                address=client.address,
                **entry(door="http", request_id=client.request_id),
            )
            if begun is not None:
                return self._successor(begun, None)
        async with self._transaction() as session:
            if verified.rehash is not None:
                if not await users.renew_hash(session, user_id, verified_hash=stored, rehash=verified.rehash):
                    raise PasswordChanged
                stored = verified.rehash
            if not await factors.is_asked_for(session, user_id):
                # Fails if the user was deactivated, or the password changed, while it was being verified.
                now = await users.record_login(session, user_id, verified_hash=stored)
                if now is None:
                    raise PasswordChanged
                return await begin_session(
                    session, now, scope=scope, client=client, keys=self._keys, settings=self._settings
                )
            mfa_token = new_mfa_token()
            await factors.add_login(
                session, digest=digest(mfa_token), user_id=user_id, verified_hash=stored, scope=scope or ""
            )
            # Whoever it is knows the password: that is to be found, also if they get no further.
            await audit.add(
                session, Actor.nobody(request_id=client.request_id), action="session.challenge", target="user",
                target_id=user_id, detail={"address": client.address},
            )  # fmt: skip
        if otp is None:
            raise MfaRequired(mfa_token=mfa_token, hint=NEXT_STEP)
        return await self._factors.by_second_factor(mfa_token, Proof(otp=otp), client=client)

    async def _refused(self, user_id: UUID | None, client: Client) -> InvalidGrant:
        """Write down that a login was refused, of whomever, by one statement for every reason; return the refusal."""
        noted = entry(door="http", request_id=client.request_id, detail={"address": client.address})
        await self._runtime.direct.fetch(audit.LOGIN_REFUSED, user_id=user_id, **noted)
        return InvalidGrant(hint=FORGOTTEN)

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
        # Before the token is used up: its owner could not have the next one.
        self._keys.require_signing()
        if scope:
            found = await self._family(token)
            if found["rotation"] == token.rotation:
                requested_scopes(scope, scopes_of(found))
        moved = await self._runtime.direct.fetch_one(
            crud.ROTATE, session_id=token.session_id, rotated_from=token.rotation
        )
        if moved is not None:
            return self._successor(moved, scope)
        found = await self._family(token)
        if found["rotation"] == token.rotation + 1 and found["in_grace"] and self._settings.refresh_grace:
            return self._successor(found, scope)
        if found["rotation"] > token.rotation:
            await self._replayed(found["rotation"], token, client)
        raise InvalidGrant

    async def _family(self, token: RefreshToken) -> asyncpg.Record:
        """Read what a refresh token descends from."""
        found = await self._runtime.direct.fetch_one(
            crud.FAMILY, session_id=token.session_id, grace=timedelta(seconds=self._settings.refresh_grace)
        )
        if found is None:
            raise InvalidGrant
        return found

    def _successor(self, found: asyncpg.Record, scope: str | None) -> TokenIssued:
        held = scopes_of(found)
        narrowed = requested_scopes(scope, held)
        row = Family(found["id"], found["user_id"], found["rotation"], found["expires_at"], found["granted"])
        return issue(row, held if narrowed is None else narrowed, self._keys, self._settings, narrowed=narrowed)

    async def _replayed(self, current: int, token: RefreshToken, client: Client) -> None:
        """End the family, in a transaction that is over before the request is refused."""
        async with self._transaction() as session:
            await crud.revoke(session, token.session_id, because="refresh token replayed")
            await audit.add(
                session,
                Actor.nobody(request_id=client.request_id),
                action="session.replay",
                target="session",
                target_id=token.session_id,
                detail={"address": client.address, "used": token.rotation, "current": current},
            )

    def by_client_credentials(self, bearer: Bearer, *, scope: str | None) -> TokenIssued:
        """Give a service account an access token for the API key that it showed, with which the token ends.

        Raises:
            UnauthorizedClient: The key is a person's.
            InvalidScope: The key holds none of the scopes.
        """
        if bearer.user.kind != "service":
            raise UnauthorizedClient("The API key is a person's", hint="send it as a bearer token, as it is")
        asked = requested_scopes(scope, bearer.actor.scopes)
        ttl = self._settings.access_token_ttl
        if bearer.expires is not None:
            ttl = max(1, min(ttl, bearer.expires - int(time.time())))
        assert bearer.actor.user_id is not None  # noqa: S101 - a key has an owner
        token = self._keys.sign(
            user_id=bearer.actor.user_id,
            api_key_id=bearer.actor.api_key_id,
            client_id=bearer.user.handle,
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
        if client_id not in {bearer.user.handle, str(bearer.actor.user_id)}:
            raise InvalidClient
        return bearer


def email_or_nobody(username: str) -> str:
    """Return the canonical address, or one that nobody can have: the same statement runs for both."""
    try:
        return canonical_email(username)
    except ValueError:
        return ""
