"""The service of second factors for a request."""

from typing import Annotated

from fastapi import Depends

from api.core.dependencies import CurrentRuntime
from api.factors.service import FactorService
from api.tokens.dependencies import CurrentActor, CurrentThrottle, SessionOnce


async def get_factor_service(
    session: SessionOnce, actor: CurrentActor, runtime: CurrentRuntime, throttle: CurrentThrottle
) -> FactorService:
    """Return the service of second factors for this request."""
    return FactorService(session, actor, runtime.passwords, throttle)


CurrentFactors = Annotated[FactorService, Depends(get_factor_service)]
