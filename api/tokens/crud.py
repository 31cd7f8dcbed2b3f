"""Statements on the table of sessions."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Interval,
    Row,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from api.audit.noting import noting
from api.core.direct import Statement
from api.core.keyset import newest_first
from api.core.pagination import Cursor
from api.devices.models import DeviceAuthorization
from api.factors.models import PendingLogin, SecondFactor
from api.roles.models import SCOPES_BY_ROLE, scopes_by_role
from api.tokens.models import Session
from api.users.accounts import ACCOUNT
from api.users.models import User

# A write a minute and session at most, however often it is used.
UNNOTED = Session.last_used_at < func.now() - timedelta(minutes=1)
LIVE = and_(Session.revoked_at.is_(None), Session.expires_at > func.now())
OWNED = select(Session, User, and_(LIVE, User.is_active)).join(User, User.id == Session.user_id)


@dataclass(frozen=True, slots=True)
class Owned:
    """A session with its owner, and whether it works now."""

    session: Session
    user: User
    is_live: bool


# A session as the family of its refresh tokens, and what its owner may do.
FAMILY_COLUMNS: Final = (
    Session.id,
    Session.user_id,
    Session.rotation,
    Session.expires_at,
    Session.scopes.label("granted"),
    User.is_superuser,
    SCOPES_BY_ROLE.label("scopes_by_role"),
)
# Of a live one of an active user; and whether it was rotated within the last so many seconds.
FAMILY: Final = Statement(
    select(
        *FAMILY_COLUMNS,
        func.coalesce(
            Session.rotated_at > func.now() - bindparam("grace", type_=Interval()),
            False,
        ).label("in_grace"),
    )
    .join(User, User.id == Session.user_id)
    .where(Session.id == bindparam("session_id"), LIVE, User.is_active)
)
# Moves such a family on from `rotation`, if it is there: of any number at once, one succeeds.
ROTATE: Final = Statement(
    update(Session)
    .where(
        Session.id == bindparam("session_id"),
        Session.rotation == bindparam("rotated_from"),
        LIVE,
        User.id == Session.user_id,
        User.is_active,
    )
    .values(rotation=Session.rotation + 1, rotated_at=func.now(), last_used_at=func.now())
    .returning(*FAMILY_COLUMNS)
)


async def add(
    session: AsyncSession, *, user_id: UUID, ttl: int, no_later: datetime | None = None, **values: Any
) -> Session:
    """Insert a session that ends `ttl` seconds from now, by the database's clock, or then."""
    expires_at: ColumnElement[datetime] = func.now() + timedelta(seconds=ttl)
    if no_later is not None:
        expires_at = func.least(expires_at, no_later)
    statement = insert(Session).values(user_id=user_id, expires_at=expires_at, **values).returning(Session)
    return (await session.execute(statement)).scalar_one()


# The owners of live sessions, if they are active, and what the sessions may do: for each request.
IDENTITIES: Final = Statement(
    select(Session.id.label("key"), Session.scopes.label("granted"), UNNOTED.label("unnoted"), *ACCOUNT)
    .join(User, User.id == Session.user_id)
    .where(Session.id == any_(bindparam("keys", type_=ARRAY(Uuid))), LIVE, User.is_active)
)
# That a session was used, unless that was written down a moment ago.
NOTE_USE: Final = Statement(
    update(Session).where(Session.id == bindparam("session_id"), UNNOTED).values(last_used_at=func.now())
)


async def identity(session: AsyncSession, session_id: UUID, user_id: UUID) -> Row[Any] | None:
    """Return who is behind a live session, as a request's own transaction sees it."""
    row = (await session.execute(IDENTITIES.executable, {"keys": [session_id]})).one_or_none()
    return row if row is not None and row.id == user_id else None


# Begins a session of somebody whose password was verified, if it is theirs still, and nothing else was asked for when
# the statement began: the login is noted with the user and in the audit log, or nothing is done.
OWNER: Final = (
    update(User)
    .where(
        User.id == bindparam("owner_id"),
        User.password_hash == bindparam("verified_hash"),
        User.is_active,
        ~select(SecondFactor.id)
        .where(SecondFactor.user_id == User.id, SecondFactor.confirmed_at.is_not(None))
        .exists(),
    )
    .values(last_login_at=func.now())
    .returning(User.id, User.email, User.is_superuser, User.roles)
    .cte("owner")
)
BEGUN: Final = (
    insert(Session)
    .from_select(
        ["id", "user_id", "expires_at", "user_agent", "address"],
        select(
            bindparam("session_id", type_=Uuid()),
            OWNER.c.id,
            func.now() + bindparam("lifetime", type_=Interval()),
            bindparam("user_agent", type_=Text()),
            bindparam("address", type_=Text()),
        ),
    )
    .returning(Session.id, Session.user_id, Session.rotation, Session.expires_at, Session.scopes.label("granted"))
    .cte("begun")
)
LOGIN: Final = (
    select(BEGUN, OWNER.c.email, OWNER.c.is_superuser, OWNER.c.roles)
    .join_from(BEGUN, OWNER, OWNER.c.id == BEGUN.c.user_id)
    .cte("login")
)
BEGIN: Final = Statement(
    select(LOGIN, scopes_by_role(LOGIN.c.roles).label("scopes_by_role")).add_cte(
        noting(
            LOGIN,
            action="session.login",
            target="session",
            actor=LOGIN.c.email,
            actor_user_id=LOGIN.c.user_id,
            detail=func.jsonb_build_object("user", LOGIN.c.email),
        )
    )
)


async def owned(session: AsyncSession, session_id: UUID) -> Owned | None:
    """Return a session with its owner."""
    row = (await session.execute(OWNED.where(Session.id == session_id))).one_or_none()
    return None if row is None else Owned(*row)


async def page(
    session: AsyncSession, *, user_id: UUID | None, live_only: bool, limit: int, after: Cursor | None
) -> list[Owned]:
    """Return up to `limit + 1` sessions, the newest first."""
    statement = OWNED
    if user_id is not None:
        statement = statement.where(Session.user_id == user_id)
    if live_only:
        statement = statement.where(LIVE)
    ordered = newest_first(statement, Session, limit=limit, after=after)
    return [Owned(*row) for row in await session.execute(ordered)]


async def revoke(session: AsyncSession, session_id: UUID, *, because: str) -> Session | None:
    """End a session; None if it had ended before."""
    statement = (
        update(Session)
        .where(Session.id == session_id, Session.revoked_at.is_(None))
        .values(revoked_at=func.now(), revoked_because=literal(because))
        .returning(Session)
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(statement)).one_or_none()


async def revoke_all(session: AsyncSession, user_id: UUID, *, because: str, keep: UUID | None = None) -> int:
    """End every live session of a user, but the one to keep; return how many there were.

    What is about to become one ends too: a login that waits for the second factor, and a device that was let in and has
    not fetched its tokens. The caller has locked the user, as whoever begins a session does.
    """
    await session.execute(delete(PendingLogin).where(PendingLogin.user_id == user_id))
    await session.execute(delete(DeviceAuthorization).where(DeviceAuthorization.user_id == user_id))
    statement = (
        update(Session).where(Session.user_id == user_id, LIVE).values(revoked_at=func.now(), revoked_because=because)
    )
    if keep is not None:
        statement = statement.where(Session.id != keep)
    return len((await session.scalars(statement.returning(Session.id))).all())
