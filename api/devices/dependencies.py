"""The services of devices for a request."""

from typing import Annotated

from fastapi import Depends

from api.core.dependencies import CurrentRuntime
from api.devices.grant import DeviceGrant
from api.devices.service import DeviceService
from api.tokens.dependencies import CurrentActor, CurrentKeys, CurrentThrottle, SessionOnce


async def get_device_service(session: SessionOnce, actor: CurrentActor, throttle: CurrentThrottle) -> DeviceService:
    """Return the service of devices for this request."""
    return DeviceService(session, actor, throttle)


async def get_device_grant(runtime: CurrentRuntime, keys: CurrentKeys) -> DeviceGrant:
    """Return the device's own side."""
    return DeviceGrant(runtime, keys)


CurrentDevices = Annotated[DeviceService, Depends(get_device_service)]
CurrentDeviceGrant = Annotated[DeviceGrant, Depends(get_device_grant)]
