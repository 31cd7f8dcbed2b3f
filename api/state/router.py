"""The HTTP door to states: what there should be, as a whole."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.core.answers import tell_changed
from api.core.problems import responses
from api.state.dependencies import CurrentState
from api.state.schemas import Applied, ApplyOptions, ExportStateOptions, Plan, PlanOptions, State

router = APIRouter(prefix="/v1", tags=["state"])


@router.post("/plan", responses=responses(400, 401, 403, 409, 413, 422, 503))
async def plan(wanted: State, state: CurrentState, how: Annotated[PlanOptions, Query()]) -> Plan:
    """Plan what it takes to get to a state: what would be created, changed and deleted, and who made it drift."""
    return await state.plan(wanted, how)


@router.post("/apply", responses=responses(400, 401, 403, 404, 409, 413, 422, 503))
async def apply(
    wanted: State, state: CurrentState, response: Response, how: Annotated[ApplyOptions, Query()]
) -> Applied:
    """Apply a state, all of it or nothing; the texts of new API keys are in the answer, this once."""
    applied = await state.apply(wanted, how)
    tell_changed(response, changed=bool(applied.changes))
    return applied


@router.get("/state", responses=responses(400, 401, 403, 422, 503), response_model_exclude_unset=True)
async def export_state(state: CurrentState, how: Annotated[ExportStateOptions, Query()]) -> State:
    """Export roles, accounts and live API keys as a state: to plan it changes nothing."""
    return await state.export_state(how)
