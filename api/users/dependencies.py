"""The service of users for a request."""

from typing import Annotated

from fastapi import Depends

from api.core.dependencies import CurrentRuntime, CurrentSession, DryRun
from api.tokens.dependencies import CurrentActor, CurrentThrottle
from api.users.listing import AccountListService
from api.users.service import UserService


async def get_user_service(
    session: CurrentSession,
    actor: CurrentActor,
    runtime: CurrentRuntime,
    dry_run: DryRun,
    throttle: CurrentThrottle,
) -> UserService:
    """Return the service of users for this request."""
    # What is sent directly is in no transaction that could be undone.
    return UserService(session, actor, runtime.passwords, None if dry_run else runtime.direct, throttle)


async def get_listing(actor: CurrentActor, runtime: CurrentRuntime) -> AccountListService:
    """Return the service of lists for this request; it needs no transaction."""
    return AccountListService(runtime.direct, actor)


CurrentListing = Annotated[AccountListService, Depends(get_listing)]
CurrentUsers = Annotated[UserService, Depends(get_user_service)]
