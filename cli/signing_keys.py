"""The terminal door to signing keys."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.call import Call
from cli.context import command
from cli.ids import id_of
from cli.output import Item, Listing

if TYPE_CHECKING:
    from api.signing_keys.service import SigningKeyService
    from cli.client.credentials import CredentialClient

COLUMNS = ("id", "algorithm", "state", "created_at", "active_from", "retired_at")
TABLE = ("id", "algorithm", "state", "active_from")


def service(call: Call) -> "SigningKeyService | CredentialClient":
    """Return the service behind these commands, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.credentials import CredentialClient

        return CredentialClient(call.server)
    from api.signing_keys.service import SigningKeyService
    from api.tokens.keys import Keys

    return SigningKeyService(call.session, call.actor, call.settings, Keys.load(call.settings))


@command("read")
async def list_keys(
    call: Call,
    limit: Annotated[int, typer.Option("--limit", help="Keys a page, 1 to 200.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Where the page before ended.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All pages.", show_default=False)] = False,
) -> Listing:
    """List the signing keys, the newest first.

    Example: apictl list-keys
    """
    from api.signing_keys.schemas import SigningKeyQuery

    query = SigningKeyQuery(limit=200 if every else limit, cursor=cursor)
    keys, following = await call.pages(service(call).list_keys, query, every=every)
    return Listing([key.model_dump(mode="json") for key in keys], following, COLUMNS, TABLE)


@command("write")
async def rotate_keys(
    call: Call,
    algorithm: Annotated[
        str | None,
        typer.Option("--algorithm", help="EdDSA, ES256, RS256 or HS256. Default: APICTL_SIGNING_ALGORITHM."),
    ] = None,
    wait: Annotated[
        int | None,
        typer.Option("--wait", help="Seconds from its publication until it signs. Default: 600.", show_default=False),
    ] = None,
) -> Item:
    """Make and publish the next signing key; it signs when the wait is over, and the ones before go on verifying.

    Example: apictl rotate-keys
    """
    from api.signing_keys.schemas import SigningKeyCreate

    given = {"algorithm": algorithm, "wait": wait}
    new = SigningKeyCreate.model_validate({name: value for name, value in given.items() if value is not None})
    made = await service(call).rotate_keys(new)
    return Item(made.model_dump(mode="json"), call.changed(changed=True))


@command("destroy")
async def retire_key(
    call: Call,
    key: Annotated[str, typer.Argument(help="The signing key's id.", show_default=False)],
    *,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also while tokens that it signed may be good.", show_default=False),
    ] = False,
) -> Item:
    """Retire a signing key: nothing that it signed is good any more.

    Without --force, tokens that may be good keep it from being retired; how long they may be, this machine's
    APICTL_ACCESS_TOKEN_TTL says.

    Example: apictl retire-key 019a0b1c-7d2e-7f30-8a41-5b6c7d8e9f00
    """
    key_id = id_of(key, "key_id", "list-keys")
    await call.confirm("destroys the signing key", expected=str(key_id))
    retired, changed = await service(call).retire_key(key_id, force=force)
    return Item(retired.model_dump(mode="json"), call.changed(changed=changed))
