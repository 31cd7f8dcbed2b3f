"""The terminal door to roles, and to what they decide."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.core.actor import Scope
from cli.call import Call
from cli.context import command
from cli.output import Item, Listing
from cli.users import IfVersion, User, item, ref

if TYPE_CHECKING:
    from api.roles.service import RoleService
    from cli.client.roles import RoleClient

Name = Annotated[str, typer.Argument(help="The role's name.", show_default=False)]
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", help=f"What whoever has it may do; repeat it: {', '.join(Scope)}.", show_default=False),
]
RoleVersion = Annotated[
    int | None, typer.Option("--if-version", help="Only if the role is still at this version; else exit 5.", min=1)
]
COLUMNS = ("name", "scopes", "description")


def service(call: Call) -> "RoleService | RoleClient":
    """Return the service behind these commands, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.roles import RoleClient

        return RoleClient(call.server)
    from api.roles.service import RoleService

    return RoleService(call.session, call.actor)


def named(role: str) -> str:
    """Return the name of a role, if HTTP would take it in a path.

    Raises:
        ValidationError: It would not; the bridge makes the same failure of it.
    """
    from api.roles.schemas import RolePath

    return RolePath(role=role).role


def body(role: Any) -> dict[str, Any]:
    """Return a role as HTTP shows it."""
    from api.roles.schemas import RoleRead

    return RoleRead.model_validate(role).model_dump(mode="json")


@command("write")
async def create_role(
    call: Call,
    name: Name,
    scopes: Scopes = None,
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
) -> Item:
    """Create a role: a named set of scopes.

    Example: apictl create-role support --scope users:read --scope tokens:read
    """
    from api.roles.schemas import RoleCreate

    new = RoleCreate(name=name, scopes=scopes or [], description=description)
    return Item(body(await service(call).create_role(new)), call.changed(changed=True))


@command("read")
async def show_role(call: Call, name: Name) -> Item:
    """Show a role.

    Example: apictl show-role support
    """
    return Item(body(await service(call).get_role(named(name))))


@command("read")
async def list_roles(
    call: Call,
    limit: Annotated[int, typer.Option("--limit", help="Roles a page, 1 to 200.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Where the page before ended.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All pages.", show_default=False)] = False,
) -> Listing:
    """List roles, in the order of their names.

    Example: apictl list-roles
    """
    from api.roles.schemas import RoleQuery

    query = RoleQuery(limit=200 if every else limit, cursor=cursor)
    roles, following = await call.pages(service(call).list_roles, query, every=every)
    return Listing([body(role) for role in roles], following, COLUMNS, COLUMNS)


@command("write")
async def update_role(
    call: Call,
    name: Name,
    scopes: Scopes = None,
    description: Annotated[str | None, typer.Option("--description", help="What it is for.")] = None,
    if_version: RoleVersion = None,
) -> Item:
    """Change a role's scopes or description; at once, for all who have it.

    The scopes named are all that it has afterwards.

    Example: apictl update-role support --scope users:read
    """
    from api.core.errors import BadRequest
    from api.roles.schemas import RoleUpdate

    given: dict[str, Any] = {
        key: value for key, value in (("scopes", scopes), ("description", description)) if value is not None
    }
    if not given:
        raise BadRequest("Nothing to change was named", hint="use --scope or --description")
    outcome = await service(call).update_role(named(name), RoleUpdate(**given), if_version=if_version)
    return Item(body(outcome.role), call.changed(changed=outcome.changed))


@command("destroy")
async def delete_role(call: Call, name: Name, if_version: RoleVersion = None) -> Item:
    """Delete a role that nobody has.

    Example: apictl delete-role support
    """
    await call.confirm("deletes the role", expected=named(name))
    return Item(body(await service(call).delete_role(named(name), if_version=if_version)), call.changed(changed=True))


@command("write")
async def grant_role(call: Call, user: User, name: Name, if_version: IfVersion = None) -> Item:
    """Give a user a role; it takes effect at once.

    Example: apictl grant-role ada@example.com support
    """
    return item(call, await service(call).grant_role(ref(user), named(name), if_version=if_version))


@command("write")
async def revoke_role(call: Call, user: User, name: Name, if_version: IfVersion = None) -> Item:
    """Take a role from a user; it takes effect at once.

    Example: apictl revoke-role ada@example.com support
    """
    return item(call, await service(call).revoke_role(ref(user), named(name), if_version=if_version))


@command("read")
async def explain(
    call: Call,
    user: Annotated[str, typer.Option("--user", help="The user's id or e-mail address.", show_default=False)],
    can: Annotated[str, typer.Option("--can", help="The scope, as users:delete.", show_default=False)],
) -> Item:
    """Tell whether a user may do something, and the rule that decides.

    Example: apictl explain --user ada@example.com --can users:delete
    """
    from api.roles.schemas import Question

    answer = await service(call).explain(Question.model_validate({"user": user, "can": can}))
    return Item(answer.model_dump(mode="json"))
