"""The service of the audit log for a request, and what it notes of those that are refused."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import JSONResponse

from api.audit.refusals import REFUSALS, note_refusal
from api.audit.service import AuditService
from api.core.dependencies import CurrentRuntime, prefers_dry_run
from api.core.problems import on_failure
from api.tokens.dependencies import CurrentActor


async def get_audit(actor: CurrentActor, runtime: CurrentRuntime) -> AuditService:
    """Return the service of the audit log for this request; it has transactions of its own."""
    return AuditService(runtime, actor)


CurrentAudit = Annotated[AuditService, Depends(get_audit)]


async def on_refusal(request: Request, error: Exception) -> JSONResponse:
    """Render the refusal of whoever may not do something; the log has it then. What is only tried leaves nothing."""
    assert isinstance(error, REFUSALS)  # noqa: S101 - registered for these classes only
    actor = getattr(request.state, "actor", None)
    if actor is not None and not prefers_dry_run(request):
        await note_refusal(request.app.state.runtime, actor, error, operation=request.scope["route"].name)
    return await on_failure(request, error)
