"""The terminal door to API keys."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.core.actor import Scope
from cli.call import Call
from cli.context import command
from cli.ids import id_of
from cli.output import Item, Listing

if TYPE_CHECKING:
    from api.api_keys.service import ApiKeyService
    from cli.client.credentials import CredentialClient

Key = Annotated[str, typer.Argument(help="The API key's id.", show_default=False)]
COLUMNS = ("id", "user", "name", "scopes", "is_live", "last_used_at", "expires_at")
TABLE = ("id", "user", "name", "is_live", "expires_at", "last_used_at", "scopes")


def service(call: Call) -> "ApiKeyService | CredentialClient":
    """Return the service behind these commands, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.credentials import CredentialClient

        return CredentialClient(call.server)
    from api.api_keys.service import ApiKeyService

    return ApiKeyService(call.session, call.actor)


@command("write")
async def create_api_key(
    call: Call,
    user: Annotated[
        str, typer.Argument(help="The owner: id, e-mail address, or a service account's name.", show_default=False)
    ],
    name: Annotated[str, typer.Option("--name", help="What it is for.", show_default=False)],
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            help=f"What it may do, of what its owner may; repeat it: {', '.join(Scope)}.",
            show_default=False,
        ),
    ] = None,
    networks: Annotated[
        list[str] | None,
        typer.Option(
            "--network",
            help="Where it may be used from, as 10.0.0.0/8; repeat it. Default: everywhere.",
            show_default=False,
        ),
    ] = None,
    expires_in: Annotated[
        int | None, typer.Option("--expires-in", help="Seconds until it ends. Default: 90 days.", show_default=False)
    ] = None,
    *,
    no_expiry: Annotated[
        bool, typer.Option("--no-expiry", help="It ends only when it is revoked.", show_default=False)
    ] = False,
) -> Item:
    """Create an API key; its text is shown this once.

    Example: apictl create-api-key deploy --name "web site" --scope users:read --fields key
    """
    from api.api_keys.schemas import ApiKeyCreate
    from api.core.errors import BadRequest

    call.require_shown("key")
    if no_expiry and expires_in is not None:
        raise BadRequest("--expires-in and --no-expiry contradict each other", hint="name one")
    given: dict[str, Any] = {"user": user, "name": name, "scopes": scopes or [], "networks": networks or None}
    if no_expiry or expires_in is not None:
        given["expires_in"] = expires_in
    issued = await service(call).create_api_key(ApiKeyCreate(**given))
    if not issued.scopes:
        call.say("It has no scopes, so it can only tell who it is (/v1/users/me): --scope says what else it may do.")
    return Item(issued.model_dump(mode="json"), call.changed(changed=True))


@command("read")
async def list_api_keys(
    call: Call,
    user: Annotated[
        str | None, typer.Argument(help="Only this owner's: id, e-mail address, or a service account's name.")
    ] = None,
    *,
    live: Annotated[bool, typer.Option("--live", help="Only those that still work.", show_default=False)] = False,
    limit: Annotated[int, typer.Option("--limit", help="Keys a page, 1 to 200.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Where the page before ended.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All pages.", show_default=False)] = False,
) -> Listing:
    """List API keys, the newest first.

    Example: apictl list-api-keys deploy --live
    """
    from api.api_keys.schemas import ApiKeyQuery

    query = ApiKeyQuery(user=user, live=live, limit=200 if every else limit, cursor=cursor)
    keys, following = await call.pages(service(call).list_api_keys, query, every=every)
    # Whose they are was said already.
    table = TABLE if user is None else [name for name in TABLE if name != "user"]
    return Listing([key.model_dump(mode="json") for key in keys], following, COLUMNS, table)


@command("write")
async def rotate_api_key(
    call: Call,
    key: Key,
    overlap: Annotated[
        int | None,
        typer.Option("--overlap", help="Seconds for which the old key goes on. Default: a day.", show_default=False),
    ] = None,
) -> Item:
    """Replace an API key; for a while both are good.

    Example: apictl rotate-api-key 019a0b1c-7d2e-7f30-8a41-5b6c7d8e9f00 --overlap 3600 --fields key
    """
    from api.api_keys.schemas import ApiKeyRotate

    call.require_shown("key")
    how = ApiKeyRotate() if overlap is None else ApiKeyRotate(overlap=overlap)
    issued = await service(call).rotate_api_key(id_of(key, "api_key_id", "list-api-keys"), overlap=how.overlap)
    return Item(issued.model_dump(mode="json"), call.changed(changed=True))


@command("write")
async def revoke_api_key(call: Call, key: Key) -> Item:
    """End an API key, at once.

    Example: apictl revoke-api-key 019a0b1c-7d2e-7f30-8a41-5b6c7d8e9f00
    """
    ended, changed = await service(call).revoke_api_key(id_of(key, "api_key_id", "list-api-keys"))
    return Item(ended.model_dump(mode="json"), call.changed(changed=changed))
