"""Statements on the table of device authorisations."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from api.devices.models import DeviceAuthorization as Device

LIVE = Device.expires_at > func.now()
# Somebody may still ask what has become of it: no longer than that is it kept.
KEPT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Polled:
    """A device that asks, whether it asks too soon, and whether its time is over."""

    device: Device
    too_soon: bool
    expired: bool


async def add(session: AsyncSession, *, lifetime: int, **values: Any) -> Device | None:
    """Insert a device; None if another one has its code."""
    statement = (
        insert(Device)
        .values(expires_at=func.now() + timedelta(seconds=lifetime), **values)
        .on_conflict_do_nothing()
        .returning(Device)
    )
    return (await session.scalars(statement)).one_or_none()


async def clean(session: AsyncSession) -> None:
    """Remove what has been over for an hour, waiting for nobody who does the same."""
    over = select(Device.id).where(Device.expires_at < func.now() - KEPT).with_for_update(skip_locked=True)
    await session.execute(delete(Device).where(Device.id.in_(over)))


async def approved_by(session: AsyncSession, digest: bytes) -> UUID | None:
    """Return who has let the device of this code in."""
    return await session.scalar(select(Device.user_id).where(Device.digest == digest, Device.approved.is_(True)))


async def poll(session: AsyncSession, digest: bytes) -> Polled | None:
    """Lock the device of this code, and note that it asked; too soon, and it has to wait longer."""
    since = func.make_interval(0, 0, 0, 0, 0, 0, Device.interval)
    statement = (
        select(
            Device,
            func.coalesce(Device.polled_at > func.now() - since, False).label("too_soon"),
            (Device.expires_at <= func.now()).label("expired"),
        )
        .where(Device.digest == digest)
        .with_for_update()
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        return None
    device, too_soon, expired = row
    values: dict[str, Any] = {"polled_at": func.now()}
    if too_soon:
        # RFC 8628, section 3.5.
        values["interval"] = Device.interval + 5
    await session.execute(update(Device).where(Device.id == device.id).values(**values))
    return Polled(device, too_soon, expired)


async def by_user_code(session: AsyncSession, user_code: str) -> Device | None:
    """Return the live device of this code."""
    statement = select(Device).where(Device.user_code == user_code, LIVE)
    return (await session.scalars(statement)).one_or_none()


async def decide(session: AsyncSession, user_code: str, *, user_id: UUID, approved: bool) -> Device | None:
    """Decide about a live device, once; None if there is none, or somebody has decided."""
    statement = (
        update(Device)
        .where(and_(Device.user_code == user_code, LIVE, Device.approved.is_(None)))
        .values(user_id=user_id, approved=approved)
        .returning(Device)
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(statement)).one_or_none()


async def remove(session: AsyncSession, device_id: UUID) -> None:
    """Remove a device that has its tokens."""
    await session.execute(delete(Device).where(Device.id == device_id))
