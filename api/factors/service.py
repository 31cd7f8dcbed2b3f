"""The rules about second factors. What they are asked for: `tokens.grants`."""

import time
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.core.actor import Actor, Scope
from api.core.errors import ApictlError, Kind
from api.core.ids import uuid7
from api.core.passwords import Passwords
from api.core.sealing import seal
from api.factors import crud
from api.factors.check import purpose, secret_of
from api.factors.codes import RECOVERY_CODES, digest, new_recovery_code, new_totp_secret, otpauth, step_of
from api.factors.schemas import FactorRead, Factors, RecoveryCodes, TotpEnrolled
from api.tokens.keys import Keys
from api.users.models import User
from api.users.records import UserRecords
from api.users.service import WrongPassword


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


class FactorService:
    """Enrols, lists and removes second factors; one instance serves one call."""

    def __init__(self, session: AsyncSession, actor: Actor, passwords: Passwords) -> None:
        self._session = session
        self._actor = actor
        self._passwords = passwords
        self._users = UserRecords(session, actor)

    async def enroll_totp(self, name: str, current_password: str, keys: Keys) -> TotpEnrolled:
        """Make the secret of an app; its owner confirms next that the app shows the right passwords.

        Raises:
            WrongPassword: The current password does not match.
        """
        user = await self._owner(current_password)
        secret, factor_id = new_totp_secret(), uuid7()
        await crud.add(
            self._session,
            factor_id=factor_id,
            user_id=user.id,
            name=name,
            sealed=seal(secret.encode(), keys.sealing, purpose=purpose(factor_id)),
        )
        return TotpEnrolled(id=factor_id, secret=secret, uri=otpauth(secret, account=user.handle, issuer=keys.issuer))

    async def confirm_totp(self, factor_id: UUID, otp: str, keys: Keys) -> RecoveryCodes:
        """Have an app asked at every login from now on. Returns new recovery codes; those before are good no more.

        Raises:
            FactorNotFound: There is none of the actor's that waits to be confirmed.
            WrongOtp: The app does not show the right password.
        """
        user_id = self._actor.require_own_session()
        user = await self._users.lock(str(user_id))
        waiting = [
            factor
            for factor in await crud.of_user(self._session, user.id, lock=True)
            if factor.id == factor_id and factor.confirmed_at is None
        ]
        if not waiting:
            raise FactorNotFound(f"No second factor {factor_id} waits to be confirmed")
        secret = secret_of(waiting[0], keys)
        step = None if secret is None else step_of(secret, otp, now=time.time())
        if step is None or not await crud.take_step(self._session, factor_id, step=step):
            raise WrongOtp(hint="type what the app shows now; is its clock right?")
        await self._users.audit("user.add_factor", user, kind="totp", factor=str(factor_id))
        return await self._new_codes(user)

    async def new_recovery_codes(self, current_password: str) -> RecoveryCodes:
        """Make new recovery codes; those before are good no more.

        Raises:
            WrongPassword: The current password does not match.
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
        """
        return await self._read(await self._users.get(ref or str(self._actor.require_identity())))

    async def reset_factors(self, ref: str) -> tuple[Factors, bool]:
        """Remove all of a user's second factors and recovery codes. Returns what is left, and whether there were any.

        For somebody who lost their phone and their paper: their password logs them in again.

        Raises:
            UserNotFound: There is no such user.
            MissingScope: The actor may not, or the user can do more than the actor.
        """
        self._actor.require(Scope.USERS_WRITE)
        user = await self._users.lock(ref)
        await self._users.require_power_over(user)
        count = await crud.remove(self._session, user.id)
        await crud.replace_recovery_codes(self._session, user.id, [])
        if count:
            await self._users.audit("user.reset_factors", user, removed=count)
        return await self._read(user), count > 0

    async def _owner(self, current_password: str) -> User:
        """Return the user who asks, who knows their password, locked."""
        found = await self._users.get(str(self._actor.require_own_session()))
        # No connection waits for a hash.
        await self._session.close()
        if not (await self._passwords.verify(current_password, found.password_hash)).ok:
            raise WrongPassword
        await self._users.require_still()
        user = await self._users.lock(str(found.id))
        if user.password_hash != found.password_hash:
            raise WrongPassword
        return user

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
