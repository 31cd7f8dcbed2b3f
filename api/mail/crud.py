"""Statements on the table of mails."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Integer, cast, delete, func, literal_column, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.core.direct import Statement
from api.mail.links import LIFETIME, Kind
from api.mail.models import Mail
from api.users.models import User

# A worker that was killed has not sent it; longer than a mail server is waited for.
LEASE: Final = timedelta(minutes=1)
# What became of it can be looked up so long.
KEPT: Final = timedelta(days=7)
# After that many it is given up: within two hours and a half, the pauses doubling from a quarter of a minute.
ATTEMPTS: Final = 10
# Of what is old, so many are removed by each one that comes.
CLEANED: Final = 10
# As the index has it.
GIVEN_UP: Final = text("due_at IS NULL AND sent_at IS NULL AND error <> ''")
LATE: Final = (Mail.due_at.is_not(None), Mail.created_at < func.now() - LEASE)
# In the words of the index: a parameter would be none.
FAILED: Final = Mail.error != literal_column("''")
USABLE: Final = (Mail.used_at.is_(None), Mail.expires_at > func.now())


# Asked again and again, by processes that have nothing to do.
DUE: Final = Statement(select(Mail.id).where(Mail.due_at <= func.now(), Mail.attempts < ATTEMPTS).limit(1))
# How many have waited for longer than a lease, how many will be tried once more, and how many were given up.
NOT_SENT: Final = Statement(
    select(
        select(func.count(Mail.id)).where(*LATE).scalar_subquery().label("late"),
        select(func.count(Mail.id)).where(Mail.due_at > func.now(), FAILED).scalar_subquery().label("waiting"),
        select(func.count(Mail.id)).where(GIVEN_UP).scalar_subquery().label("given_up"),
    )
)

# Why one was not sent: of those that are tried again, if there are any, the last that was asked for.
LAST_ERROR: Final = Statement(
    select(Mail.error)
    .where(Mail.sent_at.is_(None), FAILED)
    .order_by(Mail.due_at.is_(None), Mail.created_at.desc())
    .limit(1)
)


async def add(session: AsyncSession, kind: Kind, address: str, **values: Any) -> bool:
    """Queue a mail; False if one of the kind was queued for the address in this minute."""
    await clean(session)
    minute = cast(func.floor(func.extract("epoch", func.now()) / 60), Integer)
    statement = insert(Mail).values(kind=kind, address=address, minute=minute, **values).on_conflict_do_nothing()
    return await session.scalar(statement.returning(Mail.id)) is not None


async def latest(session: AsyncSession, kind: Kind, address: str) -> Mail:
    """Return the last mail of a kind to an address; there is one."""
    statement = select(Mail).where(Mail.kind == kind, Mail.address == address).order_by(Mail.minute.desc()).limit(1)
    return (await session.scalars(statement)).one()


async def clean(session: AsyncSession) -> None:
    """Remove some of what is old, waiting for nobody who does the same."""
    old = select(Mail.id).where(Mail.created_at < func.now() - KEPT).order_by(Mail.created_at)
    over = old.limit(CLEANED).with_for_update(skip_locked=True)
    await session.execute(delete(Mail).where(Mail.id.in_(over)))


async def claim(session: AsyncSession) -> Mail | None:
    """Take the mail that is due the longest, for as long as a lease; its link's time begins now."""
    due = (
        select(Mail.id)
        .where(Mail.due_at <= func.now(), Mail.attempts < ATTEMPTS)
        .order_by(Mail.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    statement = (
        update(Mail)
        .where(Mail.id == due)
        .values(attempts=Mail.attempts + 1, due_at=func.now() + LEASE, expires_at=func.now() + LIFETIME)
        .returning(Mail)
    )
    return await session.scalar(statement)


async def change(session: AsyncSession, mail_id: UUID, **values: Any) -> None:
    """Set columns of a mail; the row in hand stays as it was read."""
    statement = update(Mail).where(Mail.id == mail_id).values(**values)
    await session.execute(statement.execution_options(synchronize_session=False))


async def usable(session: AsyncSession, mail_id: UUID, kinds: Collection[Kind]) -> tuple[Mail, User | None] | None:
    """Return a mail of these kinds whose link may be used, and the account that it is about, if there is one."""
    statement = select(Mail, User).outerjoin(User, User.id == Mail.user_id)
    row = (await session.execute(statement.where(Mail.id == mail_id, Mail.kind.in_(kinds), *USABLE))).one_or_none()
    return None if row is None else (row[0], row[1])


async def note_failure(session: AsyncSession, mail_id: UUID, *, error: str, delay: timedelta | None) -> None:
    """Note why a mail was not sent, and when it is tried again, if ever; not if its link was ended meanwhile."""
    due_at = None if delay is None else func.now() + delay
    statement = update(Mail).where(Mail.id == mail_id, Mail.due_at.is_not(None)).values(due_at=due_at, error=error)
    await session.execute(statement.execution_options(synchronize_session=False))


async def uninvite(session: AsyncSession, address: str) -> None:
    """End the links by which an account with an address would be made, for good."""
    links = (Mail.address == address, Mail.kind.in_(("register", "invite")), Mail.used_at.is_(None))
    await session.execute(update(Mail).where(*links).values(due_at=None, used_at=func.now()))


async def use(session: AsyncSession, mail_id: UUID) -> bool:
    """Use a mail's link up; False if it is, or its time is over: of many at once, one uses it."""
    statement = update(Mail).where(Mail.id == mail_id, *USABLE).values(used_at=func.now(), due_at=None)
    return await session.scalar(statement.returning(Mail.id)) is not None
