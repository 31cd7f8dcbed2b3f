"""Accounts on a server: the methods of their services, as requests."""

from typing import Literal, NamedTuple

from api.self_service.schemas import InvitationCreate, InvitationRead
from api.service_accounts.schemas import CreateOptions as ServiceAccountOptions
from api.service_accounts.schemas import ServiceAccountCreate, ServiceAccountQuery
from api.users.schemas import (
    CreateOptions,
    IfExists,
    PasswordSet,
    UserCreate,
    UserPage,
    UserQuery,
    UserRead,
    UserUpdate,
)
from cli.client.server import Server, path_of


class UserOutcome(NamedTuple):
    """A user after a request, and what it has done."""

    user: UserRead
    changed: bool
    created: bool


def user_path(ref: str, *parts: str) -> str:
    """Return the path of a user."""
    return path_of("v1", "users", ref, *parts)


class UserClient:
    """Users and service accounts; each method is that of their services."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def create_user(
        self, new: UserCreate, *, is_superuser: bool = False, if_exists: IfExists = "fail"
    ) -> UserOutcome:
        how = CreateOptions(is_superuser=is_superuser, if_exists=if_exists)
        return UserOutcome(*await self._server.change("POST", "/v1/users", UserRead, body=new, query=how))

    async def create_service_account(
        self, new: ServiceAccountCreate, *, if_exists: Literal["fail", "skip"] = "fail"
    ) -> UserOutcome:
        how = ServiceAccountOptions(if_exists=if_exists)
        return UserOutcome(*await self._server.change("POST", "/v1/service-accounts", UserRead, body=new, query=how))

    async def get_user(self, ref: str) -> UserRead:
        return await self._server.get(user_path(ref), UserRead)

    async def list_users(self, query: UserQuery) -> tuple[list[UserRead], str | None]:
        page = await self._server.get("/v1/users", UserPage, query)
        return page.items, page.next_cursor

    async def list_service_accounts(self, query: ServiceAccountQuery) -> tuple[list[UserRead], str | None]:
        page = await self._server.get("/v1/service-accounts", UserPage, query)
        return page.items, page.next_cursor

    async def update_user(self, ref: str, changes: UserUpdate, *, if_version: int | None = None) -> UserOutcome:
        path = user_path(ref)
        return UserOutcome(*await self._server.change("PATCH", path, UserRead, body=changes, if_version=if_version))

    async def set_password(self, ref: str, password: str, *, if_version: int | None = None) -> UserOutcome:
        path, new = user_path(ref, "password"), PasswordSet(password=password)
        return UserOutcome(*await self._server.change("PUT", path, UserRead, body=new, if_version=if_version))

    async def activate_user(self, ref: str, *, if_version: int | None = None) -> UserOutcome:
        path = user_path(ref, "activate")
        return UserOutcome(*await self._server.change("POST", path, UserRead, if_version=if_version))

    async def deactivate_user(self, ref: str, *, if_version: int | None = None) -> UserOutcome:
        path = user_path(ref, "deactivate")
        return UserOutcome(*await self._server.change("POST", path, UserRead, if_version=if_version))

    async def promote_user(self, ref: str, *, if_version: int | None = None) -> UserOutcome:
        path = user_path(ref, "promote")
        return UserOutcome(*await self._server.change("POST", path, UserRead, if_version=if_version))

    async def demote_user(self, ref: str, *, if_version: int | None = None) -> UserOutcome:
        path = user_path(ref, "demote")
        return UserOutcome(*await self._server.change("POST", path, UserRead, if_version=if_version))

    async def delete_user(self, ref: str, *, if_version: int | None = None) -> UserRead:
        return (await self._server.change("DELETE", user_path(ref), UserRead, if_version=if_version)).body

    async def invite_user(self, new: InvitationCreate) -> tuple[InvitationRead, bool]:
        sent = await self._server.change("POST", "/v1/invitations", InvitationRead, body=new)
        return sent.body, sent.changed

    async def send_reset(self, ref: str) -> UserOutcome:
        return UserOutcome(*await self._server.change("POST", user_path(ref, "send-reset"), UserRead))

    async def verify_email(self, ref: str) -> UserOutcome:
        return UserOutcome(*await self._server.change("POST", user_path(ref, "verify-email"), UserRead))
