"""The HTTP door for devices that want to act for somebody, and for whoever decides about it."""

from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Form
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse

from api.core.dependencies import NO_DRY_RUN
from api.core.pages import Page
from api.core.problems import responses
from api.devices.dependencies import CurrentDeviceGrant, CurrentDevices
from api.devices.schemas import DeviceForm, DeviceIssued, DeviceRead, UserCode
from api.tokens.dependencies import BasicClient, CurrentClient, CurrentGrants, authenticated
from api.tokens.route import OAuthRoute
from api.tokens.router import REFUSED

router = APIRouter(tags=["devices"])
oauth = APIRouter(tags=["devices"], route_class=OAuthRoute, dependencies=NO_DRY_RUN)
Code = Annotated[UserCode, InPath()]
DECIDED: Final = responses(400, 401, 403, 404, 409, 422, 429, 503)
PAGE: Final = Page(Path(__file__).parent / "page.html")


@router.get("/device", include_in_schema=False)
async def device_page() -> HTMLResponse:
    """Show the page on which a person lets a device act for them."""
    return PAGE.response()


@oauth.post(
    "/v1/auth/device",
    responses=responses(413, 429, 503) | REFUSED | {401: REFUSED[400]},
    openapi_extra={"security": []},
)
async def start_device(
    form: Annotated[DeviceForm, Form()],
    basic: BasicClient,
    grants: CurrentGrants,
    grant: CurrentDeviceGrant,
    client: CurrentClient,
) -> DeviceIssued:
    """Begin to let a device act for somebody (RFC 8628): a code to wait with, and a code to be typed elsewhere."""
    await authenticated(form, basic, grants, client)
    return await grant.start(scope=form.scope, client=client)


@router.get("/v1/devices/{user_code}", responses=responses(401, 403, 404, 422, 429, 503))
async def show_device(user_code: Code, devices: CurrentDevices) -> DeviceRead:
    """Show the device that waits with this code, before one decides about it."""
    return await devices.show_device(user_code)


@router.post("/v1/devices/{user_code}/approve", responses=DECIDED, dependencies=NO_DRY_RUN)
async def approve_device(user_code: Code, devices: CurrentDevices) -> DeviceRead:
    """Let the device act for whoever asks; its session is listed like every other."""
    return await devices.decide_device(user_code, approve=True)


@router.post("/v1/devices/{user_code}/deny", responses=DECIDED, dependencies=NO_DRY_RUN)
async def deny_device(user_code: Code, devices: CurrentDevices) -> DeviceRead:
    """Refuse the device."""
    return await devices.decide_device(user_code, approve=False)
