"""Statements on the table of roles, and on who has one."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ARRAY, Text, any_, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.core.pagination import Cursor
from api.roles.models import Role
from api.users.models import User


async def by_name(session: AsyncSession, name: str, *, lock: bool = False) -> Role | None:
    """Return the role, locked until the transaction ends if asked."""
    statement = select(Role).where(Role.name == name)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    return await session.scalar(statement)


async def scopes_by_role(session: AsyncSession, names: Collection[str], *, keep: bool = False) -> dict[str, list[str]]:
    """Return the scopes of each of these roles, which nobody deletes before the transaction ends if asked."""
    # One parameter, however many there are.
    named = Role.name == any_(literal([*names], ARRAY(Text)))
    statement = select(Role.name, Role.scopes).where(named)
    rows = await session.execute(statement.with_for_update(read=True) if keep else statement)
    return {row.name: row.scopes for row in rows}


async def page(session: AsyncSession, *, limit: int, after: Cursor | None) -> list[Role]:
    """Return up to `limit + 1` roles, in the order of their names."""
    statement = select(Role).order_by(Role.name).limit(limit + 1)
    if after is not None:
        statement = statement.where(Role.name > after.value)
    return list(await session.scalars(statement))


async def every(session: AsyncSession, *, most: int) -> Sequence[Role]:
    """Return all roles in the order of their names, so many at most."""
    return (await session.scalars(select(Role).order_by(Role.name).limit(most))).all()


async def named(session: AsyncSession, names: Collection[str], *, lock: bool) -> Sequence[Role]:
    """Return the roles of these names in their order, locked until the transaction ends if asked."""
    statement = select(Role).where(Role.name == any_(literal([*names], ARRAY(Text)))).order_by(Role.name)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    return (await session.scalars(statement)).all()


async def insert_unless_taken(session: AsyncSession, **values: Any) -> Role | None:
    """Insert a role; None if there is one of this name. The primary key decides, also between two at once."""
    statement = insert(Role).values(**values).on_conflict_do_nothing(index_elements=[Role.name]).returning(Role)
    return await session.scalar(statement)


async def change(session: AsyncSession, name: str, **values: Any) -> Role:
    """Set columns of a role that is locked, raise the version, and return the new row."""
    statement = (
        update(Role)
        .where(Role.name == name)
        .values(**values, version=Role.version + 1, updated_at=func.now())
        .returning(Role)
        .execution_options(populate_existing=True)
    )
    return (await session.execute(statement)).scalar_one()


async def remove(session: AsyncSession, name: str) -> None:
    """Delete a role."""
    await session.execute(delete(Role).where(Role.name == name))


async def holders(session: AsyncSession, name: str) -> int:
    """Return how many users have a role."""
    statement = select(func.count()).select_from(User).where(User.roles.contains([name]))
    return (await session.execute(statement)).scalar_one()
