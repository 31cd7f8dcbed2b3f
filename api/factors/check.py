"""Whether a one-time password, a recovery code or a passkey is right: the one place that decides it."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.core.errors import ApictlError, Kind
from api.core.runtime import Transaction
from api.core.sealing import digest, unseal
from api.factors import crud, passkeys
from api.factors.codes import as_written, step_of
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


@dataclass(frozen=True, slots=True)
class Proof:
    """What somebody shows besides a right password: one of these."""

    otp: str | None = None
    recovery_code: str | None = None
    credential: str | None = None


@dataclass(frozen=True, slots=True)
class SignedPasskey:
    """A passkey that has signed a challenge of ours, which is not used up yet.

    Attributes:
        factor_id: The passkey.
        user_id: Whose it is.
        step: When the challenge was made, in microseconds since 1970.
        sign_count: How often the authenticator says that it was used.
    """

    factor_id: UUID
    user_id: UUID
    step: int
    sign_count: int


async def require_turn(session: AsyncSession, user_id: UUID) -> None:
    """Let a guess pass whose time has come.

    Raises:
        TooManyGuesses: The user has to wait first.
    """
    wait = await crud.wait_for(session, user_id)
    if wait:
        raise TooManyGuesses(retry_after=wait, hint=f"wait {wait} second{'' if wait == 1 else 's'}")


async def is_right(
    session: AsyncSession, user_id: UUID, keys: Keys, proof: Proof, *, passkey: SignedPasskey | None
) -> bool:
    """Tell whether this is a second factor of the user now, and use it up; a wrong one is counted.

    The caller has locked the user, as whoever changes their factors does: of many guesses at once, one is looked at.
    And it commits, whatever comes of it.

    Args:
        session: A transaction.
        user_id: Who has to have it.
        keys: What apps' secrets are sealed with.
        proof: What they show.
        passkey: The one that has signed `proof.credential`, if any has.
    """
    if await shows(session, user_id, keys, proof, passkey=passkey):
        await crud.forget_failures(session, user_id)
        return True
    if proof.credential is None:
        await crud.note_failure(session, user_id)
    return False


async def shows(
    session: AsyncSession, user_id: UUID, keys: Keys, proof: Proof, *, passkey: SignedPasskey | None
) -> bool:
    """Tell whether the proof is one of the user's, and use it up."""
    if proof.credential is not None:
        return passkey is not None and passkey.user_id == user_id and await use_up(session, passkey)
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


async def use_up(session: AsyncSession, passkey: SignedPasskey) -> bool:
    """Use up the challenge that a passkey has signed; False if it, or a later one, was used before."""
    return await crud.take_step(session, passkey.factor_id, step=passkey.step, sign_count=passkey.sign_count)


async def signed_passkey(
    transaction: Transaction, credential: str, keys: Keys, *, about: bytes, alone: bool
) -> SignedPasskey | None:
    """Return the passkey that has just signed a challenge of ours; None if none has.

    Args:
        transaction: `Runtime.transaction`; what a passkey is looked up in is over before its signature is verified.
        credential: What a browser's `credential.toJSON()` gave, as text.
        keys: What challenges are made with.
        about: What the challenge has to be for.
        alone: It stands for the password too, so its authenticator must have asked for a PIN or a finger.
    """
    assertion = await asyncio.to_thread(passkeys.Assertion.read, credential)
    if assertion is None:
        return None
    step = passkeys.made_at(assertion.challenge, keys.challenges, about, now=keys.now().timestamp())
    if step is None:
        return None
    async with transaction(readonly=True) as session:
        factor = await crud.by_credential(session, assertion.credential.raw_id)
    if factor is None or factor.public_key is None:
        return None
    sign_count = await asyncio.to_thread(
        passkeys.verified,
        passkeys.Site.of(keys.public_url),
        assertion,
        user_id=factor.user_id,
        public_key=factor.public_key,
        sign_count=factor.sign_count,
        alone=alone,
    )
    return None if sign_count is None else SignedPasskey(factor.id, factor.user_id, step, sign_count)
