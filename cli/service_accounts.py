"""The terminal door to service accounts; the commands about users take them too, by name."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cli.call import Call
from cli.context import command
from cli.output import Item, Listing
from cli.users import body, item, listing

if TYPE_CHECKING:
    from api.service_accounts.service import ServiceAccountService
    from cli.client.users import UserClient

COLUMNS = ("id", "name", "full_name", "is_active", "roles")
TABLE = ("name", "full_name", "is_active", "roles")


class IfExists(StrEnum):
    """What to do when the name is taken."""

    FAIL = "fail"
    SKIP = "skip"


class Sort(StrEnum):
    """Orders of a list of service accounts."""

    CREATED_AT = "created_at"
    CREATED_AT_DOWN = "-created_at"
    NAME = "name"
    NAME_DOWN = "-name"


def service(call: Call) -> "ServiceAccountService | UserClient":
    """Return the service behind these commands, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.users import UserClient

        return UserClient(call.server)
    from api.service_accounts.service import ServiceAccountService

    return ServiceAccountService(call.session, call.actor)


@command("write")
async def create_service_account(
    call: Call,
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens.", show_default=False)],
    full_name: Annotated[str, typer.Option("--full-name", help="What it is for.")] = "",
    roles: Annotated[
        list[str] | None, typer.Option("--role", help="A role that it has; repeat it.", show_default=False)
    ] = None,
    if_exists: Annotated[
        IfExists, typer.Option("--if-exists", help="What to do if the name is taken.")
    ] = IfExists.FAIL,
) -> Item:
    """Create a service account, for a machine.

    It has no password; give it keys with: apictl create-api-key

    Example: apictl create-service-account deploy --full-name "Deploys the web site" --if-exists skip
    """
    from api.service_accounts.schemas import ServiceAccountCreate

    new = ServiceAccountCreate(name=name, full_name=full_name, roles=roles or [])
    return item(call, await service(call).create_service_account(new, if_exists=if_exists.value))


@command("read")
async def list_service_accounts(
    call: Call,
    search: Annotated[str | None, typer.Option("--search", help="Words that begin a word of the names.")] = None,
    *,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Only these.")] = None,
    role: Annotated[str | None, typer.Option("--role", help="Only those that have this role.")] = None,
    sort: Annotated[Sort, typer.Option("--sort", help="Order; a minus sign reverses it.")] = Sort.NAME,
    limit: Annotated[int, typer.Option("--limit", help="Accounts a page, 1 to 200.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Where the page before ended.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All pages.", show_default=False)] = False,
) -> Listing:
    """List service accounts.

    Example: apictl list-service-accounts
    """
    from api.service_accounts.schemas import ServiceAccountQuery

    query = ServiceAccountQuery(
        search=search, is_active=active, role=role, sort=sort.value, limit=200 if every else limit, cursor=cursor
    )
    accounts, following = await call.pages(listing(call).list_service_accounts, query, every=every)
    return Listing([body(dict(account)) for account in accounts], following, COLUMNS, TABLE)
