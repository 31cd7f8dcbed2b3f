"""Whether a one-time password, a recovery code or a passkey is right: the one place that decides it."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.core.errors import ApictlError, Kind
from api.core.sealing import unseal
from api.factors import crud, passkeys
from api.factors.codes import as_written, digest, step_of
from api.factors.models import SecondFactor
from api.tokens.keys import Keys
from api.users import crud as users


class TooManyGuesses(ApictlError):
    """Wrong one-time passwords, one after the other; each doubles the wait, and none locks anybody out for good."""

    kind = Kind.RATE_LIMITED
    code = "too-many-guesses"
    title = "Too many one-time passwords were wrong"


def purpose(factor_id: UUID) -> str:
    """Return what an app's sealed secret cannot be moved from."""
    return f"apictl totp {factor_id}"


@dataclass(frozen=True, slots=True)
class Proof:
    """What somebody shows besides a right password: one of these."""

    otp: str | None = None
    recovery_code: str | None = None
    credential: str | None = None


async def is_right(session: AsyncSession, user_id: UUID, keys: Keys, proof: Proof, *, about: bytes) -> bool:
    """Tell whether this is a second factor of the user now, and use it up; a wrong one is counted.

    The caller has locked the user, as whoever changes their factors does: of many guesses at once, one is looked at.
    And it commits, whatever comes of it.

    Args:
        session: A transaction.
        user_id: Who has to have it.
        keys: What apps' secrets are sealed with, and challenges are made with.
        proof: What they show.
        about: What a passkey's challenge has to be for.

    Raises:
        TooManyGuesses: The user has to wait first.
    """
    # Nobody guesses a signature, so whoever guesses passwords keeps no passkey waiting.
    wait = 0 if proof.credential is not None else await crud.wait_for(session, user_id)
    if wait:
        raise TooManyGuesses(retry_after=wait, hint=f"wait {wait} seconds")
    if await shows(session, user_id, keys, proof, about=about):
        await crud.forget_failures(session, user_id)
        return True
    if proof.credential is None:
        await crud.note_failure(session, user_id)
    return False


async def shows(session: AsyncSession, user_id: UUID, keys: Keys, proof: Proof, *, about: bytes) -> bool:
    """Tell whether the proof is one of the user's, and use it up."""
    if proof.credential is not None:
        return await passkey_of(session, proof.credential, keys, about=about, owner=user_id) is not None
    if proof.recovery_code is not None:
        return await crud.take_recovery_code(session, user_id, digest(as_written(proof.recovery_code)))
    for factor in await crud.of_user(session, user_id):
        if factor.confirmed_at is not None and await shows_otp(session, factor, keys, proof.otp):
            return True
    return False


async def shows_otp(session: AsyncSession, factor: SecondFactor, keys: Keys, otp: str | None) -> bool:
    """Tell whether an app shows this one-time password now, and use it up."""
    sealed = factor.sealed
    secret = None if sealed is None else unseal(sealed, keys.sealing, purpose=purpose(factor.id))
    if secret is None or otp is None:
        return False
    step = step_of(secret.decode(), otp, now=keys.now().timestamp())
    return step is not None and await crud.take_step(session, factor.id, step=step)


async def passkey_of(
    session: AsyncSession, credential: str, keys: Keys, *, about: bytes, owner: UUID | None = None
) -> SecondFactor | None:
    """Return the passkey that has just signed a challenge of ours, and use the challenge up; None if none has.

    Args:
        session: A transaction.
        credential: What a browser's `credential.toJSON()` gave, as text.
        keys: What challenges are made with.
        about: What the challenge has to be for.
        owner: Whose it has to be. Without one it stands for the password too, so its authenticator must have asked for
            a PIN or a finger.
    """
    alone = owner is None
    assertion = await asyncio.to_thread(passkeys.Assertion.read, credential)
    if assertion is None:
        return None
    step = passkeys.made_at(assertion.challenge, keys.challenges, about, now=keys.now().timestamp())
    factor = await crud.by_credential(session, assertion.credential.raw_id)
    if step is None or factor is None or factor.public_key is None or owner not in {None, factor.user_id}:
        return None
    sign_count = await asyncio.to_thread(
        passkeys.verified,
        passkeys.Site.of(keys.issuer),
        assertion,
        user_id=factor.user_id,
        public_key=factor.public_key,
        sign_count=factor.sign_count,
        alone=alone,
    )
    if alone:
        # The user before the factor, as everywhere: two who lock in two orders wait for each other.
        await users.by_id(session, factor.user_id, lock=True)
    if sign_count is None or not await crud.take_step(session, factor.id, step=step, sign_count=sign_count):
        return None
    return factor
