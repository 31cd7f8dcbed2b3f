"""One line for a pipeline, which may be run again: the database, its schema, the first superuser, an API key."""

import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.core.actor import Scope
from cli.call import Call
from cli.context import command
from cli.migrations import answered
from cli.migrations import service as migrations
from cli.output import Item, check_fields
from cli.secrets import GeneratePassword, NoPassword, PasswordFile, PasswordStdin, one_source, read_password

if TYPE_CHECKING:
    from api.api_keys.schemas import ApiKeyCreate
    from api.migrations.schemas import MigrationRun
    from api.users.schemas import UserCreate

FIELDS = ("migrated", "superuser", "api_key", "key_file")


@command("first")
async def bootstrap(
    call: Call,
    email: Annotated[str, typer.Argument(help="The first superuser's e-mail address.", show_default=False)],
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait until the database answers.", min=0)] = 60,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file", help="Keep an API key in this file, which nobody else may read.", show_default=False
        ),
    ] = None,
    key_owner: Annotated[
        str | None,
        typer.Option(
            "--key-owner",
            help="Whose key it is: id, e-mail address, or a service account's name. Default: EMAIL.",
            show_default=False,
        ),
    ] = None,
    key_name: Annotated[
        str | None, typer.Option("--key-name", help="What the key is for. Default: bootstrap.", show_default=False)
    ] = None,
    key_scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--key-scope",
            help=f"What the key may do, of what its owner may; repeat it: {', '.join(Scope)}.",
            show_default=False,
        ),
    ] = None,
    key_expires_in: Annotated[
        int | None,
        typer.Option("--key-expires-in", help="Seconds until the key ends. Default: 90 days.", show_default=False),
    ] = None,
    *,
    password_stdin: PasswordStdin = False,
    password_file: PasswordFile = None,
    generate_password: GeneratePassword = False,
    no_password: NoPassword = False,
) -> Item:
    """Wait for the database, migrate it, and create the first superuser and an API key, as far as they are missing.

    Run again, it changes nothing: it needs no password once there is a superuser, and never sets one again. A key in
    the file that is what is asked for stays until two thirds of its life are over. Any number of processes may run it
    at once.

    Example: apictl bootstrap ops@example.com --no-password --key-file ci.key --key-scope users:read
    """
    from api.users.schemas import UserCreate

    # What can be refused is refused before anything is done.
    check_fields(Item(dict.fromkeys(FIELDS)), call.fields)
    new = UserCreate(email=email)
    sources: dict[str, Any] = {"stdin": password_stdin, "file": password_file}
    sources |= {"generated": generate_password, "none": no_password}
    one_source(**sources)
    given = {"user": key_owner, "name": key_name, "scopes": key_scopes, "expires_in": key_expires_in}
    given = {name: value for name, value in given.items() if value is not None}
    wanted = wanted_key(call, key_file, given, default_owner=new.email)
    deadline = time.monotonic() + wait
    done: dict[str, Any] = dict.fromkeys(FIELDS)
    run = await answered(call, deadline, lambda: migrate(call))
    done["migrated"] = [one.id for one in run.applied]
    if call.dry_run and run.current is None:
        # There is nothing yet to look at.
        done |= {"superuser": "created", "key_file": None if key_file is None else "written"}
        return Item(done, call.changed(changed=True))
    first = not await answered(call, deadline, lambda: has_superuser(call, new.email))
    if first:
        new = UserCreate(email=email, password=read_password(call, **sources))
    # Once: whoever does not hear that it was committed cannot know that it was not.
    done |= await provide(call, new, wanted, key_file, first=first)
    changed = bool(run.applied) or done["superuser"] == "created" or done["key_file"] == "written"
    shown = generate_password and done["superuser"] == "created" and not call.dry_run
    return Item(done, call.changed(changed=changed) | ({"generated_password": new.password} if shown else {}))


def wanted_key(call: Call, file: Path | None, given: dict[str, Any], *, default_owner: str) -> "ApiKeyCreate | None":
    """Return the key that is asked for, if one is; there is a place for its file.

    Raises:
        BadRequest: There is no place for it, or another file is there.
    """
    from api.api_keys.schemas import ApiKeyCreate
    from api.core.errors import BadRequest
    from cli.key_file import check_folder, held_in

    if file is None:
        if given:
            raise BadRequest("There is no file for the key", hint="--key-file names it: the key is shown nowhere else")
        return None
    wanted = ApiKeyCreate(**{"user": default_owner, "name": "bootstrap"} | given)
    if not wanted.scopes:
        # And the key that is there, which may do something, would make room for one that may not.
        raise BadRequest("The key could do nothing", hint="--key-scope says what it may do, as --key-scope users:read")
    check_folder(file, create=not call.dry_run)
    held_in(file)
    return wanted


async def migrate(call: Call) -> "MigrationRun":
    """Bring the database to this version's schema, as `apictl migrate` does."""
    from api.migrations.schemas import MigrationUpgrade

    return await migrations(call).upgrade(MigrationUpgrade(), dry_run=call.dry_run, say=call.say)


async def has_superuser(call: Call, email: str) -> bool:
    """Tell whether there is a superuser, so that no password is asked for; say so, if it is not who was named."""
    from api.users.records import UserNotFound
    from api.users.service import UserService

    async with call.runtime.transaction(readonly=True) as session:
        users = UserService(session, call.actor, call.runtime.passwords)
        if not await users.has_superuser():
            return False
        try:
            if not (await users.get_user(email)).is_superuser:
                call.say(f"There is a superuser already, and {email} is none: apictl promote-user makes them one.")
        except UserNotFound:
            call.say(f"There is a superuser already, and nobody with the address {email}: nobody was created.")
        return True


async def provide(
    call: Call, new: "UserCreate", wanted: "ApiKeyCreate | None", file: Path | None, *, first: bool
) -> dict[str, Any]:
    """Create what is missing of the superuser and the key, both or neither, and say what that was."""
    from api.api_keys.schemas import ApiKeyIssued
    from api.api_keys.service import ApiKeyService
    from api.users.service import UserService
    from cli.files import replaced
    from cli.key_file import held_in, turn_at

    done: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        if file is not None and not call.dry_run:
            await stack.enter_async_context(turn_at(file))
        async with call.runtime.transaction(rollback=call.dry_run) as session:
            users = UserService(session, call.actor, call.runtime.passwords)
            created = first and await users.create_first_superuser(new) is not None
            done["superuser"] = "created" if created else "exists"
            if file is None or wanted is None:
                return done
            key = await ApiKeyService(session, call.actor).ensure_api_key(wanted, held=held_in(file))
            # Its text is in the file, and nowhere else.
            done |= {"api_key": key.model_dump(mode="json", exclude={"key"}), "key_file": "unchanged"}
            if isinstance(key, ApiKeyIssued):
                done["key_file"] = "written"
                if not call.dry_run:
                    # Whole before the commit: a full disk leaves no key behind whose text nobody has. It takes its
                    # place after it: until then, the one before is good.
                    target = stack.enter_context(replaced(file))
                    target.write(f"{key.key}\n".encode())
                    target.flush()
                    os.fsync(target.fileno())
    return done
