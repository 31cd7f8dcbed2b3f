"""Lists of accounts: read directly, because they are long, and asked often."""

import asyncpg

from api.core.actor import Actor, Scope
from api.core.direct import Direct
from api.core.pagination import Cursor, cut
from api.users import crud
from api.users.schemas import AccountQuery, UserQuery

Rows = list[asyncpg.Record]


class AccountListService:
    """Lists people and service accounts, as rows that have what `UserRead` shows; one instance serves one call."""

    def __init__(self, direct: Direct, actor: Actor) -> None:
        self._direct = direct
        self._actor = actor

    async def list_users(self, query: UserQuery) -> tuple[Rows, str | None]:
        """Return a page of people, and the cursor of the next page or None.

        Raises:
            BadRequest: The cursor is not of this list.
        """
        return await self._page(query, "person")

    async def list_service_accounts(self, query: AccountQuery) -> tuple[Rows, str | None]:
        """Return a page of service accounts, and the cursor of the next page or None.

        Raises:
            BadRequest: The cursor is not of this list.
        """
        return await self._page(query, "service")

    async def _page(self, query: AccountQuery, kind: str) -> tuple[Rows, str | None]:
        self._actor.require(Scope.USERS_READ)
        after = Cursor.decode(query.cursor, sort=query.sort)
        statement, values = crud.page(query, after, kind=kind)
        rows = await self._direct.fetch_shared(statement, **values)
        return cut(rows, query.limit, lambda row: Cursor(query.sort, row[query.sort.lstrip("-")], row["id"]))
