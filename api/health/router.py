"""The HTTP door for those who watch: is the process alive, and can it do its work?"""

from fastapi import APIRouter, Request

from api.core.dependencies import CurrentRuntime, CurrentSession
from api.core.errors import DatabaseTimeout, DatabaseUnreachable
from api.core.problems import responses
from api.health.schemas import Health
from api.migrations.state import require_head
from api.signing_keys.ring import fresh

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", openapi_extra={"security": []})
async def live() -> Health:
    """Tell that the process answers; looks at nothing else."""
    return Health()


@router.get("/ready", responses=responses(503), openapi_extra={"security": []})
async def ready(request: Request, session: CurrentSession, runtime: CurrentRuntime) -> Health:
    """Tell whether requests can be served: 503 if not, with a code; `bad-settings` too where no key can sign."""
    try:
        await require_head(session)
        (await fresh(request.app.state.keys, runtime)).require_signing()
    except DatabaseTimeout as error:
        # A database that hangs is as far away as one that is gone.
        raise DatabaseUnreachable(cause=error.cause) from error
    return Health()
