"""The service of users for a request."""

from typing import Annotated

from fastapi import Depends

from api.core.dependencies import CurrentRuntime, CurrentSession
from api.tokens.dependencies import CurrentActor
from api.users.service import UserService


async def get_user_service(session: CurrentSession, actor: CurrentActor, runtime: CurrentRuntime) -> UserService:
    """Return the service of users for this request."""
    return UserService(session, actor, runtime.passwords)


CurrentUsers = Annotated[UserService, Depends(get_user_service)]
