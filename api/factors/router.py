"""The HTTP door to second factors."""

from pathlib import Path as FilePath
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path, Response
from fastapi.responses import HTMLResponse

from api.core.answers import tell_changed
from api.core.dependencies import NO_DRY_RUN
from api.core.pages import Page
from api.core.problems import responses
from api.factors.dependencies import CurrentFactors
from api.factors.schemas import (
    FactorConfirm,
    FactorEnroll,
    Factors,
    OwnPassword,
    PasskeyEnrolled,
    RecoveryCodes,
    TotpEnrolled,
)
from api.tokens.dependencies import CurrentKeys
from api.users.schemas import UserRef

router = APIRouter(tags=["second factors"])

PAGE: Final = Page(FilePath(__file__).parent / "page.html")
FactorId = Annotated[UUID, Path(description="The second factor's id.")]
OWN = responses(400, 401, 403, 404, 413, 422, 429, 503)


@router.get("/account", include_in_schema=False)
async def account_page() -> HTMLResponse:
    """Show the page on which people enrol and remove their own passkeys and apps."""
    return PAGE.response()


@router.get("/v1/users/me/factors", responses=responses(401, 403, 404, 503))
async def list_own_factors(factors: CurrentFactors) -> Factors:
    """List the second factors of the user who asks."""
    return await factors.list_factors(None)


@router.post("/v1/users/me/factors/totp", status_code=201, responses=OWN, dependencies=NO_DRY_RUN)
async def enroll_totp(new: FactorEnroll, factors: CurrentFactors, keys: CurrentKeys) -> TotpEnrolled:
    """Make the secret of an app that makes one-time passwords (RFC 6238); shown this once, and to be confirmed."""
    return await factors.enroll_totp(new.name, new.current_password, keys)


@router.post("/v1/users/me/factors/passkey", status_code=201, responses=OWN, dependencies=NO_DRY_RUN)
async def enroll_passkey(new: FactorEnroll, factors: CurrentFactors, keys: CurrentKeys) -> PasskeyEnrolled:
    """Begin to make a passkey: the options for `navigator.credentials.create()`; its answer is to be confirmed."""
    return await factors.enroll_passkey(new.name, new.current_password, keys)


@router.post("/v1/users/me/factors/{factor_id}/confirm", responses=OWN, dependencies=NO_DRY_RUN)
async def confirm_factor(
    factor_id: FactorId, proof: FactorConfirm, factors: CurrentFactors, keys: CurrentKeys
) -> RecoveryCodes:
    """Have the factor asked for at every login from now on; with the first one, recovery codes are shown, this once."""
    return await factors.confirm_factor(factor_id, proof, keys)


@router.post("/v1/users/me/factors/{factor_id}/remove", responses=OWN, dependencies=NO_DRY_RUN)
async def remove_factor(factor_id: FactorId, proof: OwnPassword, factors: CurrentFactors) -> Factors:
    """Remove one of one's own second factors."""
    return await factors.remove_factor(factor_id, proof.current_password)


@router.post("/v1/users/me/recovery-codes", responses=OWN, dependencies=NO_DRY_RUN)
async def new_recovery_codes(proof: OwnPassword, factors: CurrentFactors) -> RecoveryCodes:
    """Make new recovery codes, shown this once; those before are good no more."""
    return await factors.new_recovery_codes(proof.current_password)


@router.get("/v1/users/{user}/factors", responses=responses(401, 403, 404, 422, 503))
async def list_factors(user: Annotated[UserRef, Path()], factors: CurrentFactors) -> Factors:
    """List a user's second factors."""
    return await factors.list_factors(user)


@router.delete("/v1/users/{user}/factors", responses=responses(401, 403, 404, 422, 503))
async def reset_factors(user: Annotated[UserRef, Path()], factors: CurrentFactors, response: Response) -> Factors:
    """Remove all of a user's second factors and recovery codes: their password alone logs them in again."""
    left, changed = await factors.reset_factors(user)
    tell_changed(response, changed=changed)
    return left
