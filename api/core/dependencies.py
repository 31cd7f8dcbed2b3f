"""What every router's dependencies build on: the process's resources, and a transaction for the request. HTTP only."""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import Depends, Header, Request
from sqlalchemy.ext.asyncio import AsyncSession

from api.core.errors import BadRequest
from api.core.runtime import Runtime

ENTITY_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"', re.ASCII)


async def get_runtime(request: Request) -> Runtime:
    """Return what the process holds."""
    runtime: Runtime = request.app.state.runtime
    return runtime


async def get_request_id(request: Request) -> str:
    """Return the id under which the logs hold this request."""
    request_id: str = request.state.request_id
    return request_id


async def get_session(
    request: Request, runtime: Annotated[Runtime, Depends(get_runtime)]
) -> AsyncIterator[AsyncSession]:
    """Open the request's transaction; a GET's or HEAD's is read-only, one statement at a time."""
    async with runtime.transaction(readonly=request.method in {"GET", "HEAD"}) as session:
        yield session


async def get_if_match(
    if_match: Annotated[
        str | None, Header(description='The ETag that you read, as "3"; 412 if it has changed since.')
    ] = None,
) -> int | None:
    """Return the version that the client read, from `If-Match: "3"`; None for `*` or no header, 0 for none of ours.

    Raises:
        BadRequest: It is no entity tag of ours.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    tag = ENTITY_TAG.fullmatch(if_match.strip())
    if tag is None:
        raise BadRequest("If-Match is not one entity tag", hint='send the ETag that you got, as "3"')
    weak, version = tag.groups()
    # Compared strongly (RFC 9110, section 13.1.1): a weak tag, or one that we never gave, matches no version.
    return 0 if weak or not version.isdecimal() or len(version) > 9 else int(version)


CurrentRuntime = Annotated[Runtime, Depends(get_runtime)]
RequestId = Annotated[str, Depends(get_request_id)]
# scope="function": committed before the answer is sent. By default a failing commit would still have said 201.
CurrentSession = Annotated[AsyncSession, Depends(get_session, scope="function")]
IfMatch = Annotated[int | None, Depends(get_if_match)]
