"""The HTTP door to second factors."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Response

from api.core.problems import responses
from api.factors.dependencies import CurrentFactors
from api.factors.schemas import Factors, OwnPassword, RecoveryCodes, TotpConfirm, TotpEnroll, TotpEnrolled
from api.tokens.dependencies import CurrentKeys
from api.users.schemas import UserRef

router = APIRouter(prefix="/v1/users", tags=["second factors"])
FactorId = Annotated[UUID, Path(description="The second factor's id.")]
OWN = responses(400, 401, 403, 404, 413, 422, 503)


@router.get("/me/factors", responses=responses(401, 404, 503))
async def list_own_factors(factors: CurrentFactors) -> Factors:
    """List the second factors of the user who asks."""
    return await factors.list_factors(None)


@router.post("/me/factors/totp", status_code=201, responses=OWN)
async def enroll_totp(new: TotpEnroll, factors: CurrentFactors, keys: CurrentKeys, response: Response) -> TotpEnrolled:
    """Make the secret of an app that makes one-time passwords (RFC 6238); shown this once, and to be confirmed."""
    response.headers["Cache-Control"] = "no-store"
    return await factors.enroll_totp(new.name, new.current_password, keys)


@router.post("/me/factors/{factor_id}/confirm", responses=OWN)
async def confirm_totp(
    factor_id: FactorId, proof: TotpConfirm, factors: CurrentFactors, keys: CurrentKeys, response: Response
) -> RecoveryCodes:
    """Have the app asked at every login from now on; the recovery codes are shown this once."""
    response.headers["Cache-Control"] = "no-store"
    return await factors.confirm_totp(factor_id, proof.otp, keys)


@router.post("/me/factors/{factor_id}/remove", responses=OWN)
async def remove_factor(factor_id: FactorId, proof: OwnPassword, factors: CurrentFactors) -> Factors:
    """Remove one of one's own second factors."""
    return await factors.remove_factor(factor_id, proof.current_password)


@router.post("/me/recovery-codes", responses=OWN)
async def new_recovery_codes(proof: OwnPassword, factors: CurrentFactors, response: Response) -> RecoveryCodes:
    """Make new recovery codes, shown this once; those before are good no more."""
    response.headers["Cache-Control"] = "no-store"
    return await factors.new_recovery_codes(proof.current_password)


@router.get("/{user}/factors", responses=responses(401, 404, 422, 503))
async def list_factors(user: Annotated[UserRef, Path()], factors: CurrentFactors) -> Factors:
    """List a user's second factors."""
    return await factors.list_factors(user)


@router.delete("/{user}/factors", responses=responses(401, 403, 404, 422, 503))
async def reset_factors(user: Annotated[UserRef, Path()], factors: CurrentFactors) -> Factors:
    """Remove all of a user's second factors and recovery codes: their password alone logs them in again."""
    left, _ = await factors.reset_factors(user)
    return left
