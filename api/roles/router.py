"""The HTTP door to roles, and to what they decide."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from api.core.answers import tell_changed
from api.core.dependencies import IfMatch
from api.core.problems import responses
from api.roles.dependencies import CurrentRoles
from api.roles.models import Role
from api.roles.schemas import Explanation, Question, RoleCreate, RolePage, RoleQuery, RoleRead, RoleUpdate
from api.users.router import Ref, shown_outcome
from api.users.schemas import RoleName, UserRead

router = APIRouter(tags=["roles"])

Named = Annotated[RoleName, Path(description="The role's name.", examples=["support"])]
READ = responses(400, 401, 403, 404, 422, 503)
WRITE = responses(400, 401, 403, 404, 409, 412, 413, 422, 503)


def shown_role(role: Role, response: Response) -> RoleRead:
    """Return the body for a role, and set its entity tag."""
    response.headers["ETag"] = f'"{role.version}"'
    return RoleRead.model_validate(role)


@router.post("/v1/roles", status_code=201, responses=responses(400, 401, 403, 409, 413, 422, 503))
async def create_role(new: RoleCreate, roles: CurrentRoles, response: Response) -> RoleRead:
    """Create a role: a named set of scopes."""
    role = await roles.create_role(new)
    tell_changed(response, changed=True)
    response.headers["Location"] = f"/v1/roles/{role.name}"
    return shown_role(role, response)


@router.get("/v1/roles", responses=READ)
async def list_roles(query: Annotated[RoleQuery, Query()], roles: CurrentRoles) -> RolePage:
    """List roles, in the order of their names."""
    items, next_cursor = await roles.list_roles(query)
    return RolePage(items=[RoleRead.model_validate(role) for role in items], next_cursor=next_cursor)


@router.get("/v1/roles/{role}", responses=READ)
async def show_role(role: Named, roles: CurrentRoles, response: Response) -> RoleRead:
    """Show a role."""
    return shown_role(await roles.get_role(role), response)


@router.patch("/v1/roles/{role}", responses=WRITE)
async def update_role(
    role: Named, changes: RoleUpdate, roles: CurrentRoles, if_match: IfMatch, response: Response
) -> RoleRead:
    """Change a role's scopes or description; its scopes change at once for everybody who has it."""
    outcome = await roles.update_role(role, changes, if_version=if_match)
    tell_changed(response, changed=outcome.changed)
    return shown_role(outcome.role, response)


@router.delete("/v1/roles/{role}", responses=WRITE)
async def delete_role(role: Named, roles: CurrentRoles, if_match: IfMatch, response: Response) -> RoleRead:
    """Delete a role that nobody has; shows it as it was."""
    tell_changed(response, changed=True)
    return RoleRead.model_validate(await roles.delete_role(role, if_version=if_match))


@router.put("/v1/users/{user}/roles/{role}", responses=WRITE)
async def grant_role(user: Ref, role: Named, roles: CurrentRoles, if_match: IfMatch, response: Response) -> UserRead:
    """Give a user a role; it takes effect at once."""
    return shown_outcome(await roles.grant_role(user, role, if_version=if_match), response)


@router.delete("/v1/users/{user}/roles/{role}", responses=WRITE)
async def revoke_role(user: Ref, role: Named, roles: CurrentRoles, if_match: IfMatch, response: Response) -> UserRead:
    """Take a role from a user; it takes effect at once."""
    return shown_outcome(await roles.revoke_role(user, role, if_version=if_match), response)


@router.get("/v1/explain", responses=READ)
async def explain(question: Annotated[Question, Query()], roles: CurrentRoles) -> Explanation:
    """Tell whether a user may do something, and the rule that decides."""
    return await roles.explain(question)
