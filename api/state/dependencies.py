"""The service of states for a request."""

from typing import Annotated

from fastapi import Depends

from api.core.dependencies import CurrentRuntime, CurrentSession
from api.state.service import StateService
from api.tokens.dependencies import CurrentActor


async def get_state_service(session: CurrentSession, actor: CurrentActor, runtime: CurrentRuntime) -> StateService:
    """Return the service of states for this request."""
    return StateService(session, actor, runtime.passwords)


CurrentState = Annotated[StateService, Depends(get_state_service)]
