"""The service of states for a request."""

from typing import Annotated

from fastapi import Depends

from api.core.dependencies import CurrentRuntime
from api.state.service import StateService
from api.tokens.dependencies import CurrentActor, SessionOnce


async def get_state_service(session: SessionOnce, actor: CurrentActor, runtime: CurrentRuntime) -> StateService:
    """Return the service of states for this request."""
    return StateService(session, actor, runtime.passwords)


CurrentState = Annotated[StateService, Depends(get_state_service)]
