"""Whether a one-time password, or a recovery code, is right: the one place that decides it."""

import time
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.core.errors import ApictlError, Kind
from api.core.sealing import unseal
from api.factors import crud
from api.factors.codes import as_written, digest, step_of
from api.factors.models import SecondFactor
from api.tokens.keys import Keys


class TooManyGuesses(ApictlError):
    """Wrong one-time passwords, one after the other; each doubles the wait, and none locks anybody out for good."""

    kind = Kind.RATE_LIMITED
    code = "too-many-guesses"
    title = "Too many one-time passwords were wrong"


def purpose(factor_id: UUID) -> str:
    """Return what an app's sealed secret cannot be moved from."""
    return f"apictl totp {factor_id}"


def secret_of(factor: SecondFactor, keys: Keys) -> str | None:
    """Return the secret that an app shares with us; None if it was sealed with another secret key."""
    found = unseal(factor.sealed, keys.sealing, purpose=purpose(factor.id))
    return None if found is None else found.decode()


async def is_right(
    session: AsyncSession, user_id: UUID, keys: Keys, *, otp: str | None, recovery_code: str | None
) -> bool:
    """Tell whether this is a second factor of the user now, and use it up; a wrong one is counted.

    The caller commits, whatever comes of it.

    Raises:
        TooManyGuesses: The user has to wait first.
    """
    # Locked: of many guesses at once, one is looked at.
    factors = await crud.of_user(session, user_id, lock=True)
    wait = await crud.wait_for(session, user_id)
    if wait:
        raise TooManyGuesses(retry_after=wait, hint=f"wait {wait} seconds")
    if recovery_code is not None and await crud.take_recovery_code(session, user_id, digest(as_written(recovery_code))):
        return True
    for factor in factors:
        secret = secret_of(factor, keys) if factor.confirmed_at is not None and otp is not None else None
        step = None if secret is None or otp is None else step_of(secret, otp, now=time.time())
        if step is not None and await crud.take_step(session, factor.id, step=step):
            return True
    await crud.note_failure(session, user_id)
    return False
