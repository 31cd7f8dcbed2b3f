"""The rules about second factors. What they are asked for: `factors.grant`."""

import asyncio
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from api.core.actor import Actor, Scope
from api.core.errors import ApictlError, Kind
from api.core.ids import uuid7
from api.core.passwords import Passwords
from api.core.sealing import digest, seal
from api.factors import crud
from api.factors.check import purpose, shows_otp
from api.factors.codes import RECOVERY_CODES, new_recovery_code, new_totp_secret, otpauth, qr_code
from api.factors.models import SecondFactor
from api.factors.passkeys import NewPasskey, Site, about_factor, creation_options, new_challenge, registered
from api.factors.schemas import FactorConfirm, FactorRead, Factors, PasskeyEnrolled, RecoveryCodes, TotpEnrolled
from api.throttle.service import Throttle
from api.tokens.keys import Keys
from api.users.models import User
from api.users.records import UserRecords


class FactorNotFound(ApictlError):
    """No such second factor."""

    kind = Kind.NOT_FOUND
    code = "factor-not-found"
    title = "There is no such second factor"


class WrongOtp(ApictlError):
    """The app has shown another one-time password, or its clock is wrong."""

    kind = Kind.INVALID
    code = "wrong-otp"
    title = "The one-time password is not right"


class WrongPasskey(ApictlError):
    """A browser's answer that made no passkey for here, or not now."""

    kind = Kind.INVALID
    code = "wrong-passkey"
    title = "This is no passkey that was made here just now"


class PasskeyExists(ApictlError):
    """The passkey is enrolled already."""

    kind = Kind.CONFLICT
    code = "passkey-exists"
    title = "This passkey is enrolled already"


class FactorService:
    """Enrols, lists and removes second factors; one instance serves one call."""

    def __init__(self, session: AsyncSession, actor: Actor, passwords: Passwords, throttle: Throttle) -> None:
        self._session = session
        self._actor = actor
        self._passwords = passwords
        self._throttle = throttle
        self._users = UserRecords(session, actor)

    async def enroll_totp(self, name: str, current_password: str, keys: Keys) -> TotpEnrolled:
        """Make the secret of an app; its owner confirms next that the app shows the right passwords.

        Raises:
            WrongPassword: The current password does not match.
            TooManyAttempts: The account, or whoever asks, has to wait; that is no attempt.
        """
        user = await self._owner(current_password)
        secret, factor_id = new_totp_secret(), uuid7()
        await crud.add(
            self._session,
            factor_id=factor_id,
            user_id=user.id,
            kind="totp",
            name=name,
            sealed=seal(secret.encode(), keys.sealing, purpose=purpose(factor_id)),
        )
        uri = otpauth(secret, account=user.handle, issuer=urlsplit(keys.public_url).netloc)
        return TotpEnrolled(id=factor_id, secret=secret, uri=uri, qr_code=qr_code(uri))

    async def enroll_passkey(self, name: str, current_password: str, keys: Keys) -> PasskeyEnrolled:
        """Begin to make a passkey; its owner's browser goes on, and they confirm what it made.

        Raises:
            WrongPassword: The current password does not match.
            TooManyAttempts: The account, or whoever asks, has to wait; that is no attempt.
            BadSettings: Browsers offer no passkeys at this deployment's URL.
        """
        user = await self._owner(current_password)
        site = Site.of(keys.public_url)
        factor_id = uuid7()
        factors = await crud.of_user(self._session, user.id)
        await crud.add(self._session, factor_id=factor_id, user_id=user.id, kind="passkey", name=name)
        options = await asyncio.to_thread(
            creation_options,
            site,
            new_challenge(keys.challenges, about_factor(factor_id), now=keys.now().timestamp()),
            user_id=user.id,
            handle=user.handle,
            existing=[one.credential_id for one in factors if one.credential_id is not None],
        )
        return PasskeyEnrolled(id=factor_id, options=options)

    async def confirm_factor(self, factor_id: UUID, proof: FactorConfirm, keys: Keys) -> RecoveryCodes:
        """Have a factor asked for at every login from now on.

        Returns recovery codes; none if the user has some already: those stay good.

        Raises:
            FactorNotFound: There is none of the actor's that waits to be confirmed.
            WrongOtp: The app does not show the right password.
            WrongPasskey: The passkey was not made here and now.
            PasskeyExists: It is somebody's already.
        """
        user_id = self._actor.require_own_session()
        gone = FactorNotFound(f"No second factor {factor_id} waits to be confirmed", hint="enrol it again")
        factor = await crud.waiting(self._session, user_id, factor_id)
        if factor is None:
            raise gone
        # Before anything is locked: no row waits for a signature, nor a connection.
        await self._session.close()
        made = await self._made(factor_id, proof.credential, keys) if factor.kind == "passkey" else None
        user = await self._users.lock(str(user_id))
        # Locked: whoever ends the user's sessions ends this one first, or finds the factor.
        await self._users.require_still()
        # Of many guesses at once, all were looked at above.
        factor = await crud.waiting(self._session, user.id, factor_id)
        if factor is None:
            raise gone
        if made is None:
            await self._keep_app(factor, proof.otp, keys)
        elif not await self._keep_passkey(factor_id, made, keys):
            raise gone
        await self._users.audit("user.add_factor", user, kind=factor.kind, factor=str(factor_id))
        if await crud.count_recovery_codes(self._session, user.id):
            return RecoveryCodes(recovery_codes=[])
        return await self._new_codes(user)

    async def _keep_app(self, factor: SecondFactor, otp: str | None, keys: Keys) -> None:
        if not await shows_otp(self._session, factor, keys, otp):
            await crud.note_failure(self._session, factor.user_id, factor_id=factor.id)
            # The count has to outlive the refusal.
            await self._session.commit()
            raise WrongOtp(hint="type what the app shows now; is its clock right?")

    async def _keep_passkey(self, factor_id: UUID, made: NewPasskey, keys: Keys) -> bool:
        step = int(keys.now().timestamp() * 1_000_000)
        try:
            return await crud.confirm_passkey(self._session, factor_id, made, step=step)
        except IntegrityError:
            # The unique index decides, also between two at once; it is the only constraint that this can break.
            raise PasskeyExists from None

    async def _made(self, factor_id: UUID, credential: dict[str, Any] | None, keys: Keys) -> NewPasskey:
        site, now = Site.of(keys.public_url), keys.now().timestamp()
        made: NewPasskey | str = "there is no credential in the request"
        if credential is not None:
            made = await asyncio.to_thread(
                registered, site, credential, keys.challenges, about_factor(factor_id), now=now
            )
        if isinstance(made, str):
            raise WrongPasskey(cause=made, hint=f"begin again, at {site.origin} (that is APICTL_ISSUER)")
        return made

    async def new_recovery_codes(self, current_password: str) -> RecoveryCodes:
        """Make new recovery codes; those before are good no more.

        Raises:
            WrongPassword: The current password does not match.
            TooManyAttempts: The account, or whoever asks, has to wait; that is no attempt.
            FactorNotFound: The actor has no second factor.
        """
        user = await self._owner(current_password)
        if not await crud.is_asked_for(self._session, user.id):
            raise FactorNotFound("You have no second factor", hint="enrol one first")
        await self._users.audit("user.new_recovery_codes", user)
        return await self._new_codes(user)

    async def remove_factor(self, factor_id: UUID, current_password: str) -> Factors:
        """Remove one of the actor's own factors; with the last one, the recovery codes go.

        Raises:
            WrongPassword: The current password does not match.
            TooManyAttempts: The account, or whoever asks, has to wait; that is no attempt.
            FactorNotFound: There is none of the actor's.
        """
        user = await self._owner(current_password)
        if not await crud.remove(self._session, user.id, factor_id=factor_id):
            raise FactorNotFound(f"You have no second factor {factor_id}")
        if not await crud.is_asked_for(self._session, user.id):
            await crud.replace_recovery_codes(self._session, user.id, [])
        await self._users.audit("user.remove_factor", user, factor=str(factor_id))
        return await self._read(user)

    async def list_factors(self, ref: str | None) -> Factors:
        """Return a user's second factors: one's own (None), or with `users:read` anybody's.

        Raises:
            UserNotFound: There is no such user, or none that the actor may see.
            MissingScope: The actor came with a narrowed token, which tells who it is and no more.
        """
        user = await self._users.get(ref or str(self._actor.require_identity()))
        if self._actor.narrowed:
            self._actor.require(Scope.USERS_READ)
        return await self._read(user)

    async def reset_factors(self, ref: str) -> tuple[Factors, bool]:
        """Remove all of a user's second factors and recovery codes. Returns what is left, and whether there were any.

        For somebody who lost their phone and their paper: their password logs them in again.

        Raises:
            UserNotFound: There is no such user.
            MissingScope: The actor may not, or the user can do more than the actor.
        """
        self._actor.require(Scope.USERS_WRITE)
        user = await self._users.lock(ref)
        self._users.require_another(user, hint="remove your own one by one, with your password")
        await self._users.require_power_over(user)
        count = await crud.remove(self._session, user.id)
        await crud.replace_recovery_codes(self._session, user.id, [])
        if count:
            await self._users.audit("user.reset_factors", user, removed=count)
        return await self._read(user), count > 0

    async def _owner(self, current_password: str) -> User:
        """Return the user who asks, who knows their password, locked."""
        verified = await self._users.verified(current_password, self._passwords, self._throttle)
        return await self._users.lock_verified(verified)

    async def _new_codes(self, user: User) -> RecoveryCodes:
        codes = [new_recovery_code() for _ in range(RECOVERY_CODES)]
        await crud.replace_recovery_codes(self._session, user.id, [digest(code) for code in codes])
        return RecoveryCodes(recovery_codes=codes)

    async def _read(self, user: User) -> Factors:
        return Factors(
            user_id=user.id,
            user=user.handle,
            factors=[FactorRead.model_validate(factor) for factor in await crud.of_user(self._session, user.id)],
            recovery_codes=await crud.count_recovery_codes(self._session, user.id),
        )
