"""The HTTP door for those who watch: is the process alive, and can it do its work?"""

from fastapi import APIRouter, Request

from api.core.dependencies import CurrentRuntime
from api.core.errors import Stopping
from api.core.problems import responses
from api.health.schemas import Health
from api.migrations.state import require_served

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", openapi_extra={"security": []})
async def live() -> Health:
    """Tell that the process answers; looks at nothing else."""
    return Health()


@router.get("/ready", responses=responses(503), openapi_extra={"security": []})
async def ready(request: Request, runtime: CurrentRuntime) -> Health:
    """Tell whether requests can be served: 503 `database-unreachable`, `schema-behind`, `stopping` and so on if not."""
    if request.app.draining:
        raise Stopping
    state = request.app.state
    state.revisions = await require_served(runtime, state.revisions)
    return Health()
