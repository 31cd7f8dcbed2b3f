"""The terminal door to users."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.call import Call
from cli.context import command
from cli.output import Item, Listing
from cli.secrets import GeneratePassword, NoPassword, PasswordFile, PasswordStdin, read_password

if TYPE_CHECKING:
    from api.users.listing import AccountListService
    from api.users.records import Outcome
    from api.users.service import UserService
    from cli.client.users import UserClient, UserOutcome

User = Annotated[
    str, typer.Argument(help="The user's id or e-mail address, or a service account's name.", show_default=False)
]
IfVersion = Annotated[
    int | None,
    typer.Option("--if-version", help="Only if the user is still at this version; else exit 5.", min=1),
]
COLUMNS = ("id", "email", "full_name", "is_active", "is_superuser", "last_login_at")
TABLE = ("email", "full_name", "is_active", "is_superuser", "last_login_at")


class IfExists(StrEnum):
    """What to do when the e-mail address is taken."""

    FAIL = "fail"
    SKIP = "skip"
    UPDATE = "update"


class Sort(StrEnum):
    """Orders of a list of users."""

    CREATED_AT = "created_at"
    CREATED_AT_DOWN = "-created_at"
    UPDATED_AT = "updated_at"
    UPDATED_AT_DOWN = "-updated_at"
    EMAIL = "email"
    EMAIL_DOWN = "-email"


def service(call: Call) -> "UserService | UserClient":
    """Return the service behind these commands, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.users import UserClient

        return UserClient(call.server)
    from api.users.service import UserService

    return UserService(call.session, call.actor, call.runtime.passwords)


def ref(user: str) -> str:
    """Return what names a user, if HTTP would take it in a path.

    Raises:
        ValidationError: It would not; the bridge makes the same failure of it.
    """
    from api.users.schemas import UserPath

    return UserPath(user=user).user


def listing(call: Call) -> "AccountListService | UserClient":
    """Return the service behind lists of accounts, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.users import UserClient

        return UserClient(call.server)
    from api.users.listing import AccountListService

    return AccountListService(call.runtime.direct, call.actor)


def body(user: Any) -> dict[str, Any]:
    """Return a user as HTTP shows it."""
    from api.users.schemas import UserRead

    return UserRead.model_validate(user).model_dump(mode="json")


def item(call: Call, outcome: "Outcome | UserOutcome", **extra: Any) -> Item:
    """Return the result of a command that may have changed a user."""
    return Item(body(outcome.user), call.changed(changed=outcome.changed) | extra)


@command("write")
async def create_user(
    call: Call,
    email: Annotated[str, typer.Argument(help="The e-mail address.", show_default=False)],
    full_name: Annotated[str | None, typer.Option("--full-name", help="The name.")] = None,
    *,
    superuser: Annotated[bool, typer.Option("--superuser", help="May do everything.", show_default=False)] = False,
    if_exists: Annotated[
        IfExists, typer.Option("--if-exists", help="What to do if the address is taken.")
    ] = IfExists.FAIL,
    password_stdin: PasswordStdin = False,
    password_file: PasswordFile = None,
    generate_password: GeneratePassword = False,
    no_password: NoPassword = False,
) -> Item:
    """Create a user.

    Example: apictl create-user ada@example.com --full-name "Ada Lovelace" --generate-password
    """
    from api.users.schemas import UserCreate

    given = {"email": email} | ({} if full_name is None else {"full_name": full_name})
    # Before anybody is asked for a password: a misspelt address is no reason to type one twice.
    UserCreate(**given)
    password = read_password(
        call, stdin=password_stdin, file=password_file, generated=generate_password, none=no_password
    )
    outcome = await service(call).create_user(
        UserCreate(**given, password=password), is_superuser=superuser, if_exists=if_exists.value
    )
    shown = generate_password and outcome.created and not call.dry_run
    return item(call, outcome, **({"generated_password": password} if shown else {}))


@command("read")
async def show_user(call: Call, user: User) -> Item:
    """Show a user.

    Example: apictl show-user ada@example.com
    """
    return Item(body(await service(call).get_user(ref(user))))


@command("read")
async def list_users(
    call: Call,
    search: Annotated[
        str | None, typer.Option("--search", help="Words that begin a word of the e-mail address or the name.")
    ] = None,
    *,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Only these.")] = None,
    superusers: Annotated[bool | None, typer.Option("--superusers/--no-superusers", help="Only these.")] = None,
    role: Annotated[str | None, typer.Option("--role", help="Only users who have this role.")] = None,
    sort: Annotated[Sort, typer.Option("--sort", help="Order; a minus sign reverses it.")] = Sort.CREATED_AT,
    limit: Annotated[int, typer.Option("--limit", help="Users a page, 1 to 200.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Where the page before ended.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All pages.", show_default=False)] = False,
) -> Listing:
    """List users.

    Example: apictl list-users --search love --sort -created_at
    """
    from api.users.schemas import UserQuery

    query = UserQuery(
        search=search,
        is_active=active,
        is_superuser=superusers,
        role=role,
        sort=sort.value,
        limit=200 if every else limit,
        cursor=cursor,
    )
    users, following = await call.pages(listing(call).list_users, query, every=every)
    return Listing([body(dict(user)) for user in users], following, COLUMNS, TABLE)


@command("write")
async def update_user(
    call: Call,
    user: User,
    email: Annotated[str | None, typer.Option("--email", help="The new e-mail address.")] = None,
    full_name: Annotated[str | None, typer.Option("--full-name", help="The new name.")] = None,
    if_version: IfVersion = None,
) -> Item:
    """Change a user's e-mail address or name.

    Example: apictl update-user ada@example.com --full-name "Ada King"
    """
    from api.core.errors import BadRequest
    from api.users.schemas import UserUpdate

    given = {name: value for name, value in (("email", email), ("full_name", full_name)) if value is not None}
    if not given:
        raise BadRequest("Nothing to change was named", hint="use --email or --full-name")
    return item(call, await service(call).update_user(ref(user), UserUpdate(**given), if_version=if_version))


@command("write")
async def set_password(
    call: Call,
    user: User,
    *,
    password_stdin: PasswordStdin = False,
    password_file: PasswordFile = None,
    generate_password: GeneratePassword = False,
    if_version: IfVersion = None,
) -> Item:
    """Set a user's password; all their sessions end.

    Passkeys and apps stay: if those are in doubt, reset-factors as well.

    Example: apictl set-password ada@example.com --generate-password
    """
    from api.users.schemas import PasswordSet

    password = read_password(call, stdin=password_stdin, file=password_file, generated=generate_password)
    new = PasswordSet(password=password or "")
    outcome = await service(call).set_password(ref(user), new.password, if_version=if_version)
    call.say("Passkeys and apps, if they have any, are as they were: see list-factors and reset-factors.")
    shown = generate_password and not call.dry_run
    return item(call, outcome, **({"generated_password": password} if shown else {}))


@command("write")
async def activate_user(call: Call, user: User, if_version: IfVersion = None) -> Item:
    """Let a user log in again.

    Example: apictl activate-user ada@example.com
    """
    return item(call, await service(call).activate_user(ref(user), if_version=if_version))


@command("write")
async def deactivate_user(call: Call, user: User, if_version: IfVersion = None) -> Item:
    """Keep a user from logging in; all their sessions end at once.

    Example: apictl deactivate-user ada@example.com
    """
    return item(call, await service(call).deactivate_user(ref(user), if_version=if_version))


@command("write")
async def promote_user(call: Call, user: User, if_version: IfVersion = None) -> Item:
    """Make a user a superuser, who may do everything; all their sessions end.

    Example: apictl promote-user ada@example.com
    """
    return item(call, await service(call).promote_user(ref(user), if_version=if_version))


@command("write")
async def demote_user(call: Call, user: User, if_version: IfVersion = None) -> Item:
    """Take a superuser's powers, in live sessions too.

    Example: apictl demote-user ada@example.com
    """
    return item(call, await service(call).demote_user(ref(user), if_version=if_version))


@command("destroy")
async def delete_user(call: Call, user: User, if_version: IfVersion = None) -> Item:
    """Delete a user and their sessions.

    Example: apictl delete-user ada@example.com
    """
    found = await service(call).get_user(ref(user))
    await call.confirm("deletes the user", expected=found.handle)
    deleted = await service(call).delete_user(str(found.id), if_version=if_version)
    return Item(body(deleted), call.changed(changed=True))
