"""The service of roles for a request."""

from typing import Annotated

from fastapi import Depends

from api.core.dependencies import CurrentSession
from api.roles.service import RoleService
from api.tokens.dependencies import CurrentActor


async def get_role_service(session: CurrentSession, actor: CurrentActor) -> RoleService:
    """Return the service of roles for this request."""
    return RoleService(session, actor)


CurrentRoles = Annotated[RoleService, Depends(get_role_service)]
