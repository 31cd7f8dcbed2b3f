"""Logging in with what somebody has: after a right password, or a passkey alone.

In transactions of its own, as every grant: what was shown is used up, and what was guessed is counted, although the
request is refused.
"""

import asyncio
from typing import Final

from api.audit import crud as audit
from api.core.actor import Actor
from api.core.runtime import Runtime
from api.core.sealing import digest
from api.factors import crud
from api.factors.check import Proof, is_right, require_turn, signed_passkey, use_up
from api.factors.codes import FORM
from api.factors.passkeys import LOGIN, Site, about_login, new_challenge, request_options
from api.factors.schemas import PasskeyOptions
from api.tokens.authentication import Client
from api.tokens.keys import Keys
from api.tokens.refusals import InvalidGrant, OAuthError
from api.tokens.schemas import TokenIssued
from api.tokens.sessions import begin_session
from api.users import crud as users

AGAIN: Final = "log in again: an mfa_token is good for five minutes, five attempts, and one login"
NOT_RIGHT: Final = "a one-time password is good once: wait for the app's next one; is its clock right?"


class FactorGrant:
    """Turns second factors and passkeys into tokens."""

    def __init__(self, runtime: Runtime, keys: Keys) -> None:
        self._transaction = runtime.transaction
        self._settings = runtime.settings
        self._keys = keys

    async def by_second_factor(self, mfa_token: str, proof: Proof, *, client: Client) -> TokenIssued:
        """Go on with a login whose password was right.

        Raises:
            InvalidGrant: There is no such login, or it took too long, or the second factor is not right.
            InvalidScope: The user holds none of the scopes.
            TooManyGuesses: The user has to wait; that is no attempt.
        """
        if not FORM.fullmatch(mfa_token):
            raise InvalidGrant(hint=AGAIN)
        self._keys.require_signing()
        passkey = None
        if proof.credential is not None:
            # Before anything is locked: no row waits for a signature.
            passkey = await signed_passkey(
                self._transaction, proof.credential, self._keys, about=about_login(mfa_token), alone=False
            )
        async with self._transaction(commit_on=(OAuthError,)) as session:
            user_id = await crud.lock_waiting(session, digest(mfa_token))
            if user_id is not None and proof.credential is None:
                # Nobody guesses a signature, so whoever guesses passwords keeps no passkey waiting.
                await require_turn(session, user_id)
            found = await crud.try_login(session, digest(mfa_token))
            if found is None:
                raise InvalidGrant("No login waits for this mfa_token", hint=AGAIN)
            if not await is_right(session, found.user_id, self._keys, proof, passkey=passkey):
                await audit.add(
                    session,
                    Actor.nobody(request_id=client.request_id),
                    action="session.login",
                    target="user",
                    target_id=found.user_id,
                    detail={"address": client.address, "by": "second factor"},
                    outcome="refused",
                )
                hint = None if proof.otp is None else NOT_RIGHT
                raise InvalidGrant("The second factor is not right", hint=hint)
            await crud.remove_login(session, found.digest)
            user = await users.record_login(session, found.user_id, verified_hash=found.verified_hash)
            if user is None:
                raise InvalidGrant("The password was changed meanwhile", hint=AGAIN)
            return await begin_session(
                session, user, scope=found.scope, client=client, keys=self._keys, settings=self._settings
            )

    async def passkey_options(self, mfa_token: str | None) -> PasskeyOptions:
        """Make what a browser asks a passkey with: alone, or after a right password.

        Raises:
            InvalidGrant: There is no such login that waits for a second factor, or its user has no passkey.
            BadSettings: Browsers offer no passkeys at this deployment's URL.
        """
        allowed: list[bytes] = []
        if mfa_token is not None:
            async with self._transaction(readonly=True) as session:
                allowed = await crud.passkeys_for(session, digest(mfa_token))
            if not allowed:
                raise InvalidGrant("No login with a passkey waits for this mfa_token", hint=AGAIN)
        about = LOGIN if mfa_token is None else about_login(mfa_token)
        challenge = new_challenge(self._keys.challenges, about, now=self._keys.now().timestamp())
        options = await asyncio.to_thread(request_options, Site.of(self._keys.public_url), challenge, allowed=allowed)
        return PasskeyOptions(options=options)

    async def by_passkey(self, credential: str, *, scope: str | None, client: Client) -> TokenIssued:
        """Log in whoever a passkey belongs to; its authenticator has asked them for a PIN or a finger.

        Raises:
            InvalidGrant: No passkey of an active user has signed a challenge of ours just now, and for the first time.
            InvalidScope: The user holds none of the scopes.
            BadSettings: Browsers offer no passkeys at this deployment's URL.
        """
        self._keys.require_signing()
        passkey = await signed_passkey(self._transaction, credential, self._keys, about=LOGIN, alone=True)
        if passkey is None:
            raise InvalidGrant
        async with self._transaction(commit_on=(OAuthError,)) as session:
            # The user before the factor, as everywhere: two who lock in two orders wait for each other.
            user = await users.by_id(session, passkey.user_id, lock=True)
            if user is None or not user.is_active or not await use_up(session, passkey):
                raise InvalidGrant
            issued = await begin_session(
                session, user, scope=scope, client=client, keys=self._keys, settings=self._settings, by="passkey"
            )
            await users.record_login(session, user.id, verified_hash=None)
            return issued
