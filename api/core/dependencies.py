"""What every router's dependencies build on: the process's resources, and a transaction for the request. HTTP only."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Request
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from api.core.errors import MAX_ERRORS, ApictlError, BadRequest, FieldError, InvalidInput, Kind, field_name
from api.core.runtime import Runtime

ENTITY_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"', re.ASCII)
NO_LETTER: Final = re.compile("[^a-z]")
SAFE: Final = {"GET", "HEAD"}


class NoDryRun(ApictlError):
    """What was asked for cannot be undone at the end, so that nothing of it was done."""

    kind = Kind.USAGE
    code = "no-dry-run"
    title = "This cannot be tried without doing it"


async def get_runtime(request: Request) -> Runtime:
    """Return what the process holds."""
    runtime: Runtime = request.app.state.runtime
    return runtime


async def get_request_id(request: Request) -> str:
    """Return the id under which the logs hold this request."""
    request_id: str = request.state.request_id
    return request_id


async def get_dry_run(request: Request) -> bool:
    """Tell whether all of it is to be undone at the end (`Prefer: dry-run`, RFC 7240); there is nothing in a GET."""
    if request.method in SAFE or not prefers_dry_run(request):
        return False
    # The front says so in the answer.
    request.state.dry_run = True
    return True


async def refuse_dry_run(request: Request) -> None:
    """Go on only if whoever asks wants it done.

    Raises:
        NoDryRun: They want it undone at the end, and it cannot be.
    """
    if prefers_dry_run(request):
        raise NoDryRun(hint="send it without Prefer: dry-run")


def prefers_dry_run(request: Request) -> bool:
    """Tell whether `Prefer` names a dry run, in whatever form: who is misunderstood here would find it done."""
    return any(
        "dryrun" in NO_LETTER.sub("", value.decode("latin-1").lower())
        for name, value in request.scope["headers"]
        if name == b"prefer"
    )


async def get_session(
    request: Request, runtime: Annotated[Runtime, Depends(get_runtime)], dry_run: Annotated[bool, Depends(get_dry_run)]
) -> AsyncIterator[AsyncSession]:
    """Open the request's transaction; a GET's or HEAD's is read-only, one statement at a time."""
    async with runtime.transaction(readonly=request.method in SAFE, rollback=dry_run) as session:
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


async def require_read(request: Request) -> None:
    """Go on only if everything that was sent is read: whoever sends `{"overlap": 0}` to where it means nothing hopes.

    What has a schema refuses by itself what is not in it.

    Raises:
        InvalidInput: There is a body where none is read, or a parameter.
    """
    route = request.scope["route"]
    if not route.path.startswith("/v1/"):
        # A page's own script reads what is in its address.
        return
    refused = []
    if request.scope["query_string"] and (known := query_names(route.dependant)) is not None:
        refused = [field_name((name,)) for name in request.query_params if name not in known]
    reads_body = route.body_field is not None or "requestBody" in (route.openapi_extra or {})
    if not reads_body and request.state.has_body and await request.body():
        refused.append("body")
    if refused:
        errors = [FieldError(name, "it is not read here", "extra_forbidden") for name in refused[:MAX_ERRORS]]
        raise InvalidInput(
            f"Something was sent that is not read here: {', '.join(refused[:3])}",
            errors=errors,
            hint="/docs shows what each route reads",
        )


def query_names(dependant: Dependant) -> set[str] | None:
    """Return the parameters that a route reads; None if a schema decides about them."""
    names = set()
    for field in dependant.query_params:
        if isinstance(field.field_info.annotation, type) and issubclass(field.field_info.annotation, BaseModel):
            return None
        names.add(field.alias)
    for inner in dependant.dependencies:
        more = query_names(inner)
        if more is None:
            return None
        names |= more
    return names


def takes(dependant: Dependant, dependency: Callable[..., Any]) -> bool:
    """Tell whether a route has a dependency, anywhere in the tree of them."""
    return any(inner.call is dependency or takes(inner, dependency) for inner in dependant.dependencies)


CurrentRuntime = Annotated[Runtime, Depends(get_runtime)]
RequestId = Annotated[str, Depends(get_request_id)]
# scope="function": committed before the answer is sent. By default a failing commit would still have said 201.
CurrentSession = Annotated[AsyncSession, Depends(get_session, scope="function")]
IfMatch = Annotated[int | None, Depends(get_if_match)]
DryRun = Annotated[bool, Depends(get_dry_run)]
NO_DRY_RUN: Final = [Depends(refuse_dry_run)]
