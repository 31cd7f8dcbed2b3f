"""Roles on a server: the methods of their service, as requests."""

from typing import NamedTuple

from api.roles.schemas import Explanation, Question, RoleCreate, RolePage, RoleQuery, RoleRead, RoleUpdate
from api.users.schemas import UserRead
from cli.client.server import Server, path_of
from cli.client.users import UserOutcome, user_path


class RoleOutcome(NamedTuple):
    """A role after a request, and what it has done."""

    role: RoleRead
    changed: bool
    created: bool


def role_path(name: str) -> str:
    """Return the path of a role."""
    return path_of("v1", "roles", name)


class RoleClient:
    """Roles, who has them, and what they decide; each method is that of their service."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def create_role(self, new: RoleCreate) -> RoleRead:
        return (await self._server.change("POST", "/v1/roles", RoleRead, body=new)).body

    async def get_role(self, name: str) -> RoleRead:
        return await self._server.get(role_path(name), RoleRead)

    async def list_roles(self, query: RoleQuery) -> tuple[list[RoleRead], str | None]:
        page = await self._server.get("/v1/roles", RolePage, query)
        return page.items, page.next_cursor

    async def update_role(self, name: str, changes: RoleUpdate, *, if_version: int | None = None) -> RoleOutcome:
        path = role_path(name)
        return RoleOutcome(*await self._server.change("PATCH", path, RoleRead, body=changes, if_version=if_version))

    async def delete_role(self, name: str, *, if_version: int | None = None) -> RoleRead:
        return (await self._server.change("DELETE", role_path(name), RoleRead, if_version=if_version)).body

    async def grant_role(self, ref: str, name: str, *, if_version: int | None = None) -> UserOutcome:
        path = user_path(ref, "roles", name)
        return UserOutcome(*await self._server.change("PUT", path, UserRead, if_version=if_version))

    async def revoke_role(self, ref: str, name: str, *, if_version: int | None = None) -> UserOutcome:
        path = user_path(ref, "roles", name)
        return UserOutcome(*await self._server.change("DELETE", path, UserRead, if_version=if_version))

    async def explain(self, question: Question) -> Explanation:
        return await self._server.get("/v1/explain", Explanation, question)
