"""Statements on the table of users."""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Integer,
    Select,
    Text,
    Uuid,
    any_,
    bindparam,
    delete,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.audit.noting import noting
from api.core.direct import Statement
from api.core.pagination import Cursor
from api.users.accounts import SHOWN
from api.users.models import SEARCH_WORDS, User
from api.users.schemas import AccountQuery, UserQuery

SUPERUSERS_LOCK = "apictl:superusers"


async def by_id(session: AsyncSession, user_id: UUID, *, lock: bool = False) -> User | None:
    """Return the user with this id, locked until the transaction ends if asked."""
    return await session.scalar(_locked(select(User).where(User.id == user_id), lock=lock))


async def by_email(session: AsyncSession, email: str, *, lock: bool = False) -> User | None:
    """Return the user with this canonical address, locked until the transaction ends if asked."""
    return await session.scalar(_locked(select(User).where(User.email == email), lock=lock))


# What a login is checked against.
CREDENTIALS: Final = Statement(
    select(User.id, User.password_hash, User.is_active).where(User.email == bindparam("email"))
)


# Creates a person, which is noted in the audit log, unless the address is taken. The unique index decides, also between
# two at once.
CREATED: Final = (
    insert(User)
    .values({name: bindparam(name) for name in ("id", "email", "full_name", "password_hash", "is_superuser")})
    .on_conflict_do_nothing(index_elements=[User.email])
    .returning(*SHOWN)
    .cte("created")
)
CREATE: Final = Statement(
    select(CREATED).add_cte(
        noting(
            CREATED,
            action="user.create",
            target="user",
            actor=bindparam("entry_actor", type_=Text()),
            actor_user_id=bindparam("entry_actor_id", type_=Uuid()),
        )
    ),
    repeatable=False,
)


async def by_name(session: AsyncSession, name: str, *, lock: bool = False) -> User | None:
    """Return the service account with this name, locked until the transaction ends if asked."""
    return await session.scalar(_locked(select(User).where(User.name == name), lock=lock))


async def by_handles(
    session: AsyncSession, emails: Collection[str], names: Collection[str], ids: Collection[UUID], *, lock: bool
) -> Sequence[User]:
    """Return the people of these addresses, the service accounts of these names, and who has these ids."""
    statement = select(User).where(
        or_(
            User.email == any_(literal([*emails], ARRAY(Text))),
            User.name == any_(literal([*names], ARRAY(Text))),
            User.id == any_(literal([*ids], ARRAY(Uuid))),
        )
    )
    # In one order, so that two who lock many wait for each other and never both.
    return (await session.scalars(_locked(statement.order_by(User.id), lock=lock))).all()


async def every(session: AsyncSession, *, most: int) -> Sequence[User]:
    """Return all accounts in the order in which they were made, so many at most."""
    return (await session.scalars(select(User).order_by(User.created_at, User.id).limit(most))).all()


def _locked(statement: Select[User], *, lock: bool) -> Select[User]:
    return statement.with_for_update().execution_options(populate_existing=True) if lock else statement


def page(query: AccountQuery, after: Cursor | None, *, kind: str) -> tuple[Statement, dict[str, Any]]:
    """Return a statement for up to `limit + 1` users after the cursor, and its values.

    The extra one tells that there is another page.
    """
    is_superuser = query.is_superuser if isinstance(query, UserQuery) else None
    values = {
        "role": None if query.role is None else [query.role],
        "words": prefix_query(query.search) if query.search else None,
        "after": after and after.value,
        "after_id": after and after.id,
        "most": query.limit + 1,
    }
    given = {name: value for name, value in values.items() if value is not None}
    # What has two values or three is a part of the statement: an index of some rows is known to be good for it.
    return page_statement(
        query.sort, frozenset(given), kind, is_active=query.is_active, is_superuser=is_superuser
    ), given


@lru_cache(maxsize=256)
def page_statement(
    sort: str,
    given: frozenset[str],
    kind: str,
    *,
    is_active: bool | None,
    is_superuser: bool | None,
) -> Statement:
    """Return the statement for a page that is sorted so, and filtered by what is given."""
    column: Any = getattr(User, sort.lstrip("-"))
    bound = tuple_(bindparam("after", type_=column.type), bindparam("after_id", type_=Uuid()))
    filters = {
        "role": User.roles.contains(bindparam("role", type_=ARRAY(Text))),
        "words": SEARCH_WORDS.op("@@")(func.to_tsquery("simple", bindparam("words", type_=Text()))),
        "after": tuple_(column, User.id) < bound if sort.startswith("-") else tuple_(column, User.id) > bound,
    }
    order = (column.desc(), User.id.desc()) if sort.startswith("-") else (column.asc(), User.id.asc())
    asked: list[Any] = [condition for name, condition in filters.items() if name in given]
    if column is User.email:
        # Known by the kind, but not to PostgreSQL: in its index, all those without one come first.
        asked.append(User.email.is_not(None))
    # In the words of the indexes of some rows.
    if is_active is not None:
        asked.append(User.is_active if is_active else not_(User.is_active))
    if is_superuser is not None:
        asked.append(User.is_superuser if is_superuser else not_(User.is_superuser))
    return Statement(
        select(*SHOWN)
        .where(User.kind == literal_column(f"'{kind}'"), *asked)
        .order_by(*order)
        .limit(bindparam("most", type_=Integer()))
    )


def prefix_query(words: str) -> str:
    """Return the text-search query that every word must begin a word of the document."""
    found = re.findall(r"\w+", words.replace("_", " "))
    return " & ".join(f"'{word}':*" for word in found)


async def insert_service_account(session: AsyncSession, *, name: str, full_name: str) -> User | None:
    """Insert a service account; None if the name is taken. The unique index decides, also between two at once."""
    values = {"kind": "service", "name": name, "full_name": full_name}
    statement = insert(User).values(values).on_conflict_do_nothing(index_elements=[User.name]).returning(User)
    return await session.scalar(statement)


async def change(session: AsyncSession, user_id: UUID, **values: Any) -> User | None:
    """Set columns of a user, raise the version, and return the new row."""
    statement = (
        update(User)
        .where(User.id == user_id)
        .values(**values, version=User.version + 1, updated_at=func.now())
        .returning(User)
        .execution_options(populate_existing=True)
    )
    return await session.scalar(statement)


async def renew_hash(session: AsyncSession, user_id: UUID, *, verified_hash: str, rehash: str) -> bool:
    """Keep a newer hash of the same password; False if it is not the user's password any more."""
    statement = (
        update(User)
        .where(User.id == user_id, User.password_hash == verified_hash)
        .values(password_hash=rehash)
        .returning(User.id)
    )
    return await session.scalar(statement) is not None


async def record_login(session: AsyncSession, user_id: UUID, *, verified_hash: str | None) -> User | None:
    """Note a login, if the user is active and the password is still the one that was verified, where one was."""
    unchanged = () if verified_hash is None else (User.password_hash == verified_hash,)
    statement = (
        update(User)
        .where(User.id == user_id, User.is_active, *unchanged)
        .values(last_login_at=func.now())
        .returning(User)
        .execution_options(populate_existing=True)
    )
    return await session.scalar(statement)


async def remove(session: AsyncSession, user_id: UUID) -> None:
    """Delete a user; sessions go with them."""
    await session.execute(delete(User).where(User.id == user_id))


async def lock_superusers(session: AsyncSession) -> None:
    """Let one transaction at a time decide who is a superuser."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": SUPERUSERS_LOCK})


async def other_superuser_exists(session: AsyncSession, user_id: UUID | None) -> bool:
    """Tell whether an active superuser exists besides this user."""
    statement = select(User.id).where(User.is_superuser, User.is_active).limit(1)
    if user_id is not None:
        statement = statement.where(User.id != user_id)
    return await session.scalar(statement) is not None
