"""The HTTP door to the audit log."""

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from fastapi.responses import StreamingResponse

from api.audit.dependencies import CurrentAudit
from api.audit.schemas import AuditFilter, AuditPage, AuditQuery, AuditSince, AuditVerified
from api.core.dependencies import NO_DRY_RUN
from api.core.problems import responses

router = APIRouter(prefix="/v1/audit", tags=["audit log"])
MEDIA_TYPE = "application/jsonl"


@router.get("", responses=responses(400, 401, 403, 404, 422, 503))
async def list_audit(query: Annotated[AuditQuery, Query()], audit: CurrentAudit) -> AuditPage:
    """List the audit log, the newest entries first: who did what to whom, by which door, and with which outcome."""
    items, next_cursor = await audit.list_audit(query)
    return AuditPage(items=items, next_cursor=next_cursor)


@router.get(
    "/export",
    responses=responses(400, 401, 403, 404, 422, 503)
    | {200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}},
    response_class=Response,
)
async def export_audit(audit: CurrentAudit, which: Annotated[AuditFilter, Query()]) -> Response:
    """Export the audit log as JSONL, the oldest entries first."""
    return StreamingResponse(
        await audit.export_audit(which),
        media_type=MEDIA_TYPE,
        headers={"Content-Disposition": 'attachment; filename="audit.jsonl"'},
    )


@router.post("/verification", responses=responses(400, 401, 403, 409, 413, 422, 503), dependencies=NO_DRY_RUN)
async def verify_audit(
    audit: CurrentAudit, since: Annotated[AuditSince, Body(default_factory=AuditSince)]
) -> AuditVerified:
    """Look whether the audit log is whole, and holds what an earlier answer of this names: 409 if not."""
    return await audit.verify_audit(since)
