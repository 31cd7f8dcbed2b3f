"""The service of roles for a request."""

from typing import Annotated

from fastapi import Depends

from api.roles.service import RoleService
from api.tokens.dependencies import CurrentActor, SessionOnce


async def get_role_service(session: SessionOnce, actor: CurrentActor) -> RoleService:
    """Return the service of roles for this request."""
    return RoleService(session, actor)


CurrentRoles = Annotated[RoleService, Depends(get_role_service)]
