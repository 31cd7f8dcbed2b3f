"""The terminal door to sessions and the tokens that hang on them."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.call import Call
from cli.context import command
from cli.ids import id_of
from cli.output import Item, Listing

if TYPE_CHECKING:
    from api.tokens.schemas import TokenCreate, TokenIssued
    from api.tokens.service import TokenService
    from cli.client.credentials import CredentialClient

COLUMNS = ("id", "user", "label", "is_live", "created_at", "last_used_at", "expires_at", "user_agent", "address")
TABLE = ("id", "user", "label", "is_live", "last_used_at", "user_agent", "address", "scopes")


def service(call: Call) -> "TokenService | CredentialClient":
    """Return the service behind these commands, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.credentials import CredentialClient

        return CredentialClient(call.server)
    from api.tokens.service import TokenService

    return TokenService(call.session, call.actor, call.settings)


@command("write")
async def create_token(
    call: Call,
    user: Annotated[str, typer.Argument(help="The owner's id or e-mail address.", show_default=False)],
    label: Annotated[str, typer.Option("--label", help="What it is for.")] = "",
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="What it may do; repeat it. Default: all the owner may.")
    ] = None,
    expires_in: Annotated[
        int | None, typer.Option("--expires-in", help="Seconds until its session ends.", show_default=False)
    ] = None,
) -> Item:
    """Issue an access and a refresh token for a user, without their password.

    Example: apictl create-token ada@example.com --fields access_token
    """
    from api.tokens.schemas import TokenCreate

    call.require_shown("access_token", "refresh_token")
    new = TokenCreate(user=user, label=label, scopes=scopes, expires_in=expires_in)
    issued = await issue(call, new)
    return Item(issued.model_dump(mode="json", exclude_none=True), call.changed(changed=True))


@command("read")
async def list_tokens(
    call: Call,
    user: Annotated[str | None, typer.Argument(help="Only this user's, by id or e-mail address.")] = None,
    *,
    live: Annotated[bool, typer.Option("--live", help="Only those that still work.", show_default=False)] = False,
    limit: Annotated[int, typer.Option("--limit", help="Sessions a page, 1 to 200.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Where the page before ended.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All pages.", show_default=False)] = False,
) -> Listing:
    """List sessions, the newest first.

    Example: apictl list-tokens ada@example.com --live
    """
    from api.tokens.schemas import TokenQuery

    query = TokenQuery(user=user, live=live, limit=200 if every else limit, cursor=cursor)
    tokens, following = await call.pages(service(call).list_tokens, query, every=every)
    # Whose they are was said already.
    table = TABLE if user is None else [name for name in TABLE if name != "user"]
    return Listing([token.model_dump(mode="json") for token in tokens], following, COLUMNS, table)


@command("write")
async def revoke_token(
    call: Call, token: Annotated[str, typer.Argument(help="The session's id.", show_default=False)]
) -> Item:
    """End a session and every token of it, at once.

    Example: apictl revoke-token 019a0b1c-7d2e-7f30-8a41-5b6c7d8e9f00
    """
    ended, changed = await service(call).revoke_token(id_of(token, "token_id", "list-tokens"))
    return Item(ended.model_dump(mode="json"), call.changed(changed=changed))


@command("destroy")
async def revoke_tokens(
    call: Call,
    user: Annotated[str, typer.Argument(help="The user's id or e-mail address.", show_default=False)],
    keep: Annotated[str | None, typer.Option("--keep", help="A session of theirs that goes on, by its id.")] = None,
) -> Item:
    """End every session of a user at once, but the one to keep.

    Their API keys go on: see revoke-api-key.

    Example: apictl revoke-tokens ada@example.com
    """
    from api.tokens.schemas import TokensRevoke

    which = TokensRevoke.model_validate({"user": user, "keep": keep})
    await call.confirm("ends every session of", expected=user)
    ended = await service(call).revoke_tokens(which)
    return Item(ended.model_dump(mode="json"), call.changed(changed=ended.revoked > 0))


@command("read")
async def introspect_token(call: Call) -> Item:
    """Tell what a token is good for now.

    It is an access token, a refresh token or an API key, read from standard input or asked for.

    Example: apictl introspect-token
    """
    token = read_token(call)
    if call.server is not None:
        from cli.client.credentials import CredentialClient

        found = await CredentialClient(call.server).introspect_token(token)
    else:
        from api.oauth.service import IntrospectionService
        from api.signing_keys.ring import fresh
        from api.tokens.keys import Keys

        keys = await fresh(Keys.load(call.settings), call.runtime, door="cli")
        found = await IntrospectionService(call.runtime, keys, call.actor).introspect_token(token)
    return Item(found.model_dump(mode="json", exclude_none=True))


async def issue(call: Call, new: "TokenCreate") -> "TokenIssued":
    """Return new tokens, signed here or by the server."""
    if call.server is not None:
        from cli.client.credentials import CredentialClient

        return await CredentialClient(call.server).create_token(new)
    from api.signing_keys.ring import load
    from api.tokens.keys import Keys
    from api.tokens.service import TokenService

    keys = Keys.load(call.settings)
    await load(keys, call.session, call.settings.signing_algorithm, door="cli")
    return await TokenService(call.session, call.actor, call.settings).create_token(new, keys, dry_run=call.dry_run)


def read_token(call: Call) -> str:
    """Return the token that was typed unseen, or piped in.

    Raises:
        MissingInput: Nobody may be asked.
    """
    import getpass
    import sys

    from api.core.errors import MissingInput
    from cli.secrets import MAX_BYTES, decoded
    from cli.signals import at_a_prompt

    if sys.stdin.isatty() and not call.interactive:
        raise MissingInput("A token is needed, and --no-input forbids to ask", hint="pipe it in")
    with at_a_prompt():
        if call.interactive:
            return getpass.getpass("Token: ")
        return decoded(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input", what="token")
