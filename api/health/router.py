"""The HTTP door for those who watch: is the process alive, and can it do its work?"""

from fastapi import APIRouter

from api.core.dependencies import CurrentSession
from api.core.problems import responses
from api.health.schemas import Health
from api.migrations.service import require_head

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", openapi_extra={"security": []})
async def live() -> Health:
    """Tell that the process answers; looks at nothing else."""
    return Health()


@router.get("/ready", responses=responses(503), openapi_extra={"security": []})
async def ready(session: CurrentSession) -> Health:
    """Tell whether requests can be served: 503 `database-unreachable`, `schema-behind` or `database-newer` if not."""
    await require_head(session)
    return Health()
