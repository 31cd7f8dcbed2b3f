"""The HTTP door to files of users."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.bulk.dependencies import CurrentBulk
from api.bulk.reading import FileFormat
from api.bulk.schemas import ExportOptions, ImportOptions, ImportReport
from api.core.answers import tell_changed
from api.core.dependencies import NO_DRY_RUN
from api.core.problems import responses

router = APIRouter(prefix="/v1/bulk", tags=["files of users"])

MEDIA_TYPES: Final[dict[FileFormat, str]] = {"csv": "text/csv", "jsonl": "application/jsonl"}
FILE: Final[dict[str, Any]] = {media_type: {"schema": {"type": "string"}} for media_type in MEDIA_TYPES.values()}
PIECE: Final = 8 * 1024


async def sent(request: Request) -> AsyncIterator[bytes]:
    """Yield a request's body, the first piece when all of it is there."""
    async for piece in pieces(await request.body()):
        yield piece


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body a piece at a time, so that others come between."""
    for start in range(0, len(body), PIECE):
        await asyncio.sleep(0)
        yield body[start : start + PIECE]


@router.post(
    "/users",
    responses=responses(400, 401, 403, 413, 422, 503)
    | {207: {"model": ImportReport, "description": "Some rows were refused; `errors` says why."}},
    openapi_extra={"requestBody": {"required": True, "content": FILE}},
    # It has a parameter of its own for that: only whoever asks for it waits for an import to be undone.
    dependencies=NO_DRY_RUN,
)
async def import_users(
    request: Request, bulk: CurrentBulk, how: Annotated[ImportOptions, Query()], response: Response
) -> ImportReport:
    """Create a user for each row of a file: CSV or JSONL, as the body."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    said = next((form for form, known in MEDIA_TYPES.items() if known == media_type), None)
    report = await bulk.import_users(sent(request), how.model_copy(update={"format": how.format or said}))
    response.status_code = 207 if report.failed else 200
    tell_changed(response, changed=report.changed)
    return report


@router.get(
    "/users",
    responses=responses(400, 401, 403, 422, 503) | {200: {"content": FILE}},
    response_class=Response,
)
async def export_users(bulk: CurrentBulk, how: Annotated[ExportOptions, Query()]) -> Response:
    """Export all people, as a file that can be imported."""
    return StreamingResponse(
        await bulk.export_users(how),
        media_type=MEDIA_TYPES[how.format],
        headers={"Content-Disposition": f'attachment; filename="users.{how.format}"'},
    )
