"""The rules about letting a device act for somebody (RFC 8628). How it gets its tokens then: `grant`."""

from sqlalchemy.ext.asyncio import AsyncSession

from api.audit import crud as audit
from api.core.actor import Actor
from api.core.errors import ApictlError, Kind
from api.devices import crud
from api.devices.codes import shown, typed
from api.devices.models import DeviceAuthorization
from api.devices.schemas import DeviceRead
from api.throttle.service import Throttle
from api.users import crud as users
from api.users.records import UserRecords


class DeviceNotFound(ApictlError):
    """No device waits with this code."""

    kind = Kind.NOT_FOUND
    code = "device-not-found"
    title = "No device waits with this code"


class DeviceDecided(ApictlError):
    """Somebody has decided about the device."""

    kind = Kind.CONFLICT
    code = "device-decided"
    title = "Somebody has decided about this device"
    default_hint = "if that was a mistake: begin again on the device, or end its session, see apictl list-tokens"


class DeviceService:
    """Shows a device that waits, and decides about it; one instance serves one call."""

    def __init__(self, session: AsyncSession, actor: Actor, throttle: Throttle) -> None:
        self._session = session
        self._actor = actor
        self._throttle = throttle

    async def show_device(self, user_code: str) -> DeviceRead:
        """Return the device that shows this code, for somebody who could let it act for them.

        Raises:
            DeviceNotFound: There is none, or no longer.
            MissingScope: The actor came with a narrowed token.
            TooManyAttempts: They have typed too many codes.
        """
        await self._throttle.take_user_code(str(self._actor.require_own_session()))
        return read(await self._waiting(user_code))

    async def decide_device(self, user_code: str, *, approve: bool) -> DeviceRead:
        """Let the device act for the user who asks, or refuse it; for good.

        Raises:
            DeviceNotFound: There is none, or no longer.
            DeviceDecided: It was decided before.
            MissingScope: The actor came with a narrowed token.
            TooManyAttempts: They have typed too many codes.
        """
        user_id = self._actor.require_own_session()
        await self._throttle.take_user_code(str(user_id))
        # Locked: whoever ends all of the user's sessions ends this one first, or the device's.
        await users.by_id(self._session, user_id, lock=True)
        await UserRecords(self._session, self._actor).require_still()
        decided = await crud.decide(self._session, typed(user_code), user_id=user_id, approved=approve)
        if decided is None:
            await self._waiting(user_code)
            raise DeviceDecided
        await audit.add(
            self._session, self._actor, action="device.approve" if approve else "device.deny",
            target="device", target_id=decided.id, detail={"address": decided.address, "scope": decided.scope},
        )  # fmt: skip
        return read(decided)

    async def _waiting(self, user_code: str) -> DeviceAuthorization:
        found = await crud.by_user_code(self._session, typed(user_code))
        if found is None:
            raise DeviceNotFound(hint="look at the device: the code may have run out, and another be there")
        return found


def read(device: DeviceAuthorization) -> DeviceRead:
    """Return a device as whoever decides sees it."""
    stored = {name: getattr(device, name) for name in DeviceRead.model_fields.keys() - {"user_code"}}
    return DeviceRead(user_code=shown(device.user_code), **stored)
