"""Statements on the tables of second factors."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, insert, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from api.factors.models import PendingLogin, RecoveryCode, SecondFactor
from api.factors.passkeys import NewPasskey
from api.users.models import User

LOGIN_LIFE: Final = timedelta(minutes=5)
# From the enrolment of a factor to the proof that it works.
CONFIRMATION_LIFE: Final = timedelta(minutes=10)
ATTEMPTS: Final = 5
# Wrong passwords that cost nothing; from then on each doubles the wait, up to a quarter of an hour.
FREE: Final = 5
LONGEST: Final = 900


async def add(
    session: AsyncSession, *, factor_id: UUID, user_id: UUID, kind: str, name: str, sealed: bytes | None = None
) -> SecondFactor:
    """Insert a factor that is not confirmed yet, in place of others that never were."""
    await session.execute(
        delete(SecondFactor).where(SecondFactor.user_id == user_id, SecondFactor.confirmed_at.is_(None))
    )
    statement = (
        insert(SecondFactor)
        .values(id=factor_id, user_id=user_id, kind=kind, name=name, sealed=sealed)
        .returning(SecondFactor)
    )
    return (await session.scalars(statement)).one()


async def of_user(session: AsyncSession, user_id: UUID) -> Sequence[SecondFactor]:
    """Return a user's factors, the oldest first."""
    statement = select(SecondFactor).where(SecondFactor.user_id == user_id).order_by(SecondFactor.id)
    return (await session.scalars(statement)).all()


async def by_credential(session: AsyncSession, credential_id: bytes) -> SecondFactor | None:
    """Return a passkey by the name that it has for itself."""
    statement = select(SecondFactor).where(SecondFactor.credential_id == credential_id)
    return (await session.scalars(statement)).one_or_none()


async def waiting(session: AsyncSession, user_id: UUID, factor_id: UUID) -> SecondFactor | None:
    """Return a factor of the user's that may still be confirmed."""
    statement = select(SecondFactor).where(
        SecondFactor.id == factor_id,
        SecondFactor.user_id == user_id,
        SecondFactor.confirmed_at.is_(None),
        SecondFactor.created_at > func.now() - CONFIRMATION_LIFE,
        SecondFactor.failures < ATTEMPTS,
    )
    return (await session.scalars(statement)).one_or_none()


async def confirm_passkey(session: AsyncSession, factor_id: UUID, new: NewPasskey, *, step: int) -> bool:
    """Keep what an authenticator has made for a factor that waits for it; False if it does not, any more."""
    statement = (
        update(SecondFactor)
        .where(SecondFactor.id == factor_id, SecondFactor.confirmed_at.is_(None))
        .values(
            credential_id=new.credential_id,
            public_key=new.public_key,
            sign_count=new.sign_count,
            last_step=step,
            confirmed_at=func.now(),
        )
        .returning(SecondFactor.id)
    )
    return await session.scalar(statement) is not None


async def is_asked_for(session: AsyncSession, user_id: UUID) -> bool:
    """Tell whether a password alone does not log this user in."""
    statement = select(SecondFactor.id).where(SecondFactor.user_id == user_id, SecondFactor.confirmed_at.is_not(None))
    return await session.scalar(statement.limit(1)) is not None


async def take_step(session: AsyncSession, factor_id: UUID, *, step: int, sign_count: int = 0) -> bool:
    """Note that the password of a time step, or a challenge, was used; False if it, or a later one, was used before.

    The counter of a passkey goes up, or is 0 for ever (WebAuthn, section 6.1.1): of two answers at once that both were
    right when they were looked at, the copy's is not any more.
    """
    statement = (
        update(SecondFactor)
        .where(
            SecondFactor.id == factor_id,
            or_(SecondFactor.last_step.is_(None), SecondFactor.last_step < step),
            or_(SecondFactor.sign_count < sign_count, and_(SecondFactor.sign_count == 0, literal(sign_count) == 0)),
        )
        .values(
            last_step=step,
            sign_count=sign_count,
            last_used_at=func.now(),
            confirmed_at=func.coalesce(SecondFactor.confirmed_at, func.now()),
        )
        .returning(SecondFactor.id)
    )
    return await session.scalar(statement) is not None


async def note_failure(session: AsyncSession, user_id: UUID, *, factor_id: UUID | None = None) -> None:
    """Count a wrong password against every factor that is asked for, or against one that is to be confirmed."""
    whose = SecondFactor.confirmed_at.is_not(None) if factor_id is None else SecondFactor.id == factor_id
    await session.execute(
        update(SecondFactor)
        .where(SecondFactor.user_id == user_id, whose)
        .values(failures=SecondFactor.failures + 1, failed_at=func.now())
    )


async def forget_failures(session: AsyncSession, user_id: UUID) -> None:
    """Count from nothing again: the user has shown a right one."""
    statement = update(SecondFactor).where(SecondFactor.user_id == user_id, SecondFactor.failures > 0)
    await session.execute(statement.values(failures=0))


async def wait_for(session: AsyncSession, user_id: UUID) -> int:
    """Return how many seconds the user has to wait before the next guess."""
    delay = func.least(func.power(2, func.least(SecondFactor.failures - FREE, 20)), LONGEST)
    left = func.extract("epoch", SecondFactor.failed_at - func.now()) + delay
    statement = select(func.max(left)).where(
        SecondFactor.user_id == user_id, SecondFactor.confirmed_at.is_not(None), SecondFactor.failures >= FREE
    )
    seconds = await session.scalar(statement)
    return max(0, -(-int(seconds * 1000) // 1000)) if seconds is not None and seconds > 0 else 0


async def remove(session: AsyncSession, user_id: UUID, *, factor_id: UUID | None = None) -> int:
    """Remove one factor of a user, or all; return how many there were."""
    statement = delete(SecondFactor).where(SecondFactor.user_id == user_id)
    if factor_id is not None:
        statement = statement.where(SecondFactor.id == factor_id)
    return len((await session.scalars(statement.returning(SecondFactor.id))).all())


async def replace_recovery_codes(session: AsyncSession, user_id: UUID, digests: Sequence[bytes]) -> None:
    """Make these the user's recovery codes, and no others."""
    await session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    if digests:
        await session.execute(insert(RecoveryCode), [{"user_id": user_id, "digest": digest} for digest in digests])


async def count_recovery_codes(session: AsyncSession, user_id: UUID) -> int:
    """Return how many recovery codes are left."""
    return await session.scalar(select(func.count()).where(RecoveryCode.user_id == user_id)) or 0


async def take_recovery_code(session: AsyncSession, user_id: UUID, digest: bytes) -> bool:
    """Use up a recovery code; False if it is none of the user's."""
    statement = (
        delete(RecoveryCode)
        .where(RecoveryCode.user_id == user_id, RecoveryCode.digest == digest)
        .returning(RecoveryCode.digest)
    )
    return await session.scalar(statement) is not None


async def add_login(session: AsyncSession, *, digest: bytes, user_id: UUID, verified_hash: str, scope: str) -> None:
    """Insert a login that waits for the second factor; those that waited too long are removed."""
    values = {"digest": digest, "user_id": user_id, "verified_hash": verified_hash, "scope": scope}
    await session.execute(insert(PendingLogin).values(expires_at=func.now() + LOGIN_LIFE, **values))
    # Last, and waiting for nobody: others hold such logins and wait for the user that we hold.
    over = select(PendingLogin.digest).where(PendingLogin.expires_at < func.now()).with_for_update(skip_locked=True)
    await session.execute(delete(PendingLogin).where(PendingLogin.digest.in_(over)))


def live(digest: bytes) -> ColumnElement[bool]:
    """Return the condition that a login waits, and has attempts left."""
    return and_(PendingLogin.digest == digest, PendingLogin.expires_at > func.now(), PendingLogin.attempts < ATTEMPTS)


async def lock_waiting(session: AsyncSession, digest: bytes) -> UUID | None:
    """Lock the user whose login waits, and return who it is: before the login, as whoever ends all of a user's does."""
    whose = select(PendingLogin.user_id).where(live(digest)).scalar_subquery()
    return await session.scalar(select(User.id).where(User.id == whose).with_for_update())


async def try_login(session: AsyncSession, digest: bytes) -> PendingLogin | None:
    """Count an attempt; None if there is no such login, or it had its attempts."""
    statement = (
        update(PendingLogin).where(live(digest)).values(attempts=PendingLogin.attempts + 1).returning(PendingLogin)
    )
    return (await session.scalars(statement)).one_or_none()


async def passkeys_for(session: AsyncSession, digest: bytes) -> list[bytes]:
    """Return the passkeys of whoever's login waits; none if there is no such login, or it had its attempts."""
    statement = (
        select(SecondFactor.credential_id)
        .join(PendingLogin, PendingLogin.user_id == SecondFactor.user_id)
        .where(live(digest), SecondFactor.credential_id.is_not(None))
        .order_by(SecondFactor.id)
    )
    return [found for found in await session.scalars(statement) if found is not None]


async def remove_login(session: AsyncSession, digest: bytes) -> None:
    """Remove a login that is done."""
    await session.execute(delete(PendingLogin).where(PendingLogin.digest == digest))
