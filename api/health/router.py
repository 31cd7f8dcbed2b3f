"""The HTTP door for those who watch: is the process alive, and can it do its work?"""

import time
from typing import Final

from fastapi import APIRouter, Request

from api.core.dependencies import CurrentRuntime
from api.core.errors import Stopping
from api.core.problems import responses
from api.health.schemas import Health
from api.migrations.state import require_served
from api.signing_keys.ring import fresh

# Seconds for which the signing keys are believed to be there: those who need them read them again each second.
KEYS_AGE: Final = 60.0

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", openapi_extra={"security": []})
async def live() -> Health:
    """Tell that the process answers; looks at nothing else."""
    return Health()


@router.get("/ready", responses=responses(503), openapi_extra={"security": []})
async def ready(request: Request, runtime: CurrentRuntime) -> Health:
    """Tell whether requests can be served: 503 if not, with a code, as `stopping`, or `bad-settings` (no key)."""
    if request.app.draining:
        raise Stopping
    state = request.app.state
    state.revisions = await require_served(runtime, state.revisions)
    (await fresh(state.keys, runtime, since=time.monotonic() - KEYS_AGE)).require_signing()
    return Health()
