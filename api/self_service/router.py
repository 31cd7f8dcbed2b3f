"""The HTTP door to accounts that are made, and opened again, by a link in a mail."""

from pathlib import Path as File
from typing import Annotated, Final

from fastapi import APIRouter, Path, Response
from fastapi.responses import HTMLResponse

from api.core.answers import tell_changed
from api.core.dependencies import NO_DRY_RUN
from api.core.pages import Page
from api.core.problems import responses
from api.self_service.dependencies import CurrentAccountLinks, CurrentAccountMails
from api.self_service.schemas import (
    Accepted,
    AddressGiven,
    EmailChange,
    EmailConfirm,
    InvitationCreate,
    InvitationRead,
    PasswordReset,
    RegistrationComplete,
)
from api.users.router import shown, shown_outcome
from api.users.schemas import UserRead, UserRef

router = APIRouter(tags=["accounts by mail"])
Ref = Annotated[UserRef, Path()]
HERE: Final = File(__file__).parent
REGISTER: Final = Page(HERE / "register.html")
RESET: Final = Page(HERE / "reset.html")
CONFIRM: Final = Page(HERE / "confirm.html")
BY_NOBODY: Final = responses(400, 403, 409, 413, 422, 503)
ASKED: Final = BY_NOBODY | responses(429)
SEND: Final = responses(400, 401, 403, 404, 409, 413, 422, 503)


@router.get("/register", include_in_schema=False)
async def register_page() -> HTMLResponse:
    """Show the page on which a person registers, or follows the link of a registration or an invitation."""
    return REGISTER.response()


@router.get("/reset-password", include_in_schema=False)
async def reset_page() -> HTMLResponse:
    """Show the page on which a person asks for a new password, or chooses it."""
    return RESET.response()


@router.get("/confirm-email", include_in_schema=False)
async def confirm_page() -> HTMLResponse:
    """Show the page on which a person confirms their address."""
    return CONFIRM.response()


@router.post(
    "/v1/auth/register",
    status_code=202,
    responses=ASKED,
    openapi_extra={"security": []},
    dependencies=NO_DRY_RUN,
)
async def register(given: AddressGiven, links: CurrentAccountLinks) -> Accepted:
    """Send a link by which an account is made to an address; the answer is the same whether it has one."""
    return await links.register(given.email)


@router.post(
    "/v1/auth/complete-registration",
    status_code=201,
    responses=BY_NOBODY,
    openapi_extra={"security": []},
    dependencies=NO_DRY_RUN,
)
async def complete_registration(
    given: RegistrationComplete, links: CurrentAccountLinks, response: Response
) -> UserRead:
    """Make the account that the link of a registration, or of an invitation, is for."""
    return shown(await links.complete_registration(given), response)


@router.post(
    "/v1/auth/forgot-password",
    status_code=202,
    responses=ASKED,
    openapi_extra={"security": []},
    dependencies=NO_DRY_RUN,
)
async def forgot_password(given: AddressGiven, links: CurrentAccountLinks) -> Accepted:
    """Send a link by which a new password is chosen to an address; the answer is the same whether it has an account."""
    return await links.forgot_password(given.email)


@router.post("/v1/auth/reset-password", responses=BY_NOBODY, openapi_extra={"security": []}, dependencies=NO_DRY_RUN)
async def reset_password(given: PasswordReset, links: CurrentAccountLinks, response: Response) -> UserRead:
    """Set the password of whoever the link was sent to; all their sessions end."""
    return shown(await links.reset_password(given), response)


@router.post("/v1/auth/confirm-email", responses=BY_NOBODY, openapi_extra={"security": []}, dependencies=NO_DRY_RUN)
async def confirm_email(given: EmailConfirm, links: CurrentAccountLinks, response: Response) -> UserRead:
    """Confirm an address by the link that was sent to it; of a change, it becomes the account's."""
    return shown(await links.confirm_email(given.token), response)


@router.post("/v1/invitations", status_code=202, responses=SEND | responses(429))
async def invite_user(new: InvitationCreate, mails: CurrentAccountMails, response: Response) -> InvitationRead:
    """Invite somebody by mail; the account is made when they accept."""
    outcome = await mails.invite_user(new)
    tell_changed(response, changed=outcome.changed)
    return outcome.invitation


@router.post("/v1/users/me/verify-email", status_code=202, responses=SEND | responses(429), dependencies=NO_DRY_RUN)
async def verify_my_email(mails: CurrentAccountMails, response: Response) -> UserRead:
    """Send the user who asks a link by which they confirm their address."""
    return shown_outcome(await mails.verify_my_email(), response)


@router.put("/v1/users/me/email", status_code=202, responses=SEND | responses(429), dependencies=NO_DRY_RUN)
async def change_my_email(change: EmailChange, mails: CurrentAccountMails, response: Response) -> UserRead:
    """Send a link to the address that the user who asks wants to have; it changes when that is followed."""
    return shown_outcome(await mails.change_my_email(change.current_password, change.email), response)


@router.post("/v1/users/{user}/send-reset", status_code=202, responses=SEND)
async def send_reset(user: Ref, mails: CurrentAccountMails, response: Response) -> UserRead:
    """Send a user a link by which they choose a new password."""
    return shown_outcome(await mails.send_reset(user), response)


@router.post("/v1/users/{user}/verify-email", status_code=202, responses=SEND)
async def verify_email(user: Ref, mails: CurrentAccountMails, response: Response) -> UserRead:
    """Send a user a link by which they confirm their address."""
    return shown_outcome(await mails.verify_email(user), response)
