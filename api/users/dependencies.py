"""The service of users for a request."""

from typing import Annotated

from fastapi import Depends, Request

from api.core.dependencies import CurrentRuntime, DryRun
from api.tokens.dependencies import CurrentActor, CurrentThrottle, SessionOnce
from api.users.listing import AccountListService
from api.users.service import UserService


async def get_user_service(
    request: Request,
    session: SessionOnce,
    actor: CurrentActor,
    runtime: CurrentRuntime,
    dry_run: DryRun,
    throttle: CurrentThrottle,
) -> UserService:
    """Return the service of users for this request."""
    # What is sent directly is in no transaction that could be undone, or have a key in it.
    is_alone = not dry_run and "idempotency-key" not in request.headers
    return UserService(session, actor, runtime.passwords, runtime.direct if is_alone else None, throttle)


async def get_listing(actor: CurrentActor, runtime: CurrentRuntime) -> AccountListService:
    """Return the service of lists for this request; it needs no transaction."""
    return AccountListService(runtime.direct, actor)


CurrentListing = Annotated[AccountListService, Depends(get_listing)]
CurrentUsers = Annotated[UserService, Depends(get_user_service)]
