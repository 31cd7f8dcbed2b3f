"""The HTTP door to the doctor."""

from fastapi import APIRouter

from api.core.problems import responses
from api.doctor.dependencies import CurrentDoctor
from api.doctor.schemas import Diagnosis

router = APIRouter(prefix="/v1/doctor", tags=["health"], responses=responses(401, 403, 503))


@router.get("")
async def doctor(service: CurrentDoctor) -> Diagnosis:
    """Look at everything that may be wrong with this server, and say what to do about it; 200 also if something is."""
    return await service.doctor()
