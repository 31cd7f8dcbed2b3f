"""The doctor for a request."""

from contextlib import nullcontext
from typing import Annotated

from fastapi import Depends, Request

from api.core.dependencies import CurrentRuntime
from api.doctor.service import DoctorService
from api.tokens.dependencies import CurrentActor


async def get_doctor_service(request: Request, runtime: CurrentRuntime, actor: CurrentActor) -> DoctorService:
    """Return the doctor for this request, who looks at this server."""
    return DoctorService(request.app.state.settings, actor, lambda: nullcontext(runtime))


CurrentDoctor = Annotated[DoctorService, Depends(get_doctor_service)]
