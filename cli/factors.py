"""The terminal door to second factors."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.call import Call
from cli.context import command
from cli.output import Item
from cli.users import ref

if TYPE_CHECKING:
    from api.factors.service import FactorService
    from cli.client.credentials import CredentialClient

User = Annotated[str, typer.Argument(help="The user's id or e-mail address.", show_default=False)]


def service(call: Call) -> "FactorService | CredentialClient":
    """Return the service behind these commands, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.credentials import CredentialClient

        return CredentialClient(call.server)
    from api.factors.service import FactorService
    from api.throttle.service import Throttle

    # The operator is in no network, and shows no password.
    return FactorService(call.session, call.actor, call.runtime.passwords, Throttle(call.runtime, ""))


@command("read")
async def list_factors(call: Call, user: User) -> Item:
    """List a user's second factors.

    Example: apictl list-factors ada@example.com -o json
    """
    return Item((await service(call).list_factors(ref(user))).model_dump(mode="json"))


@command("destroy")
async def reset_factors(call: Call, user: User) -> Item:
    """Remove all of a user's second factors and recovery codes: their password alone logs them in again.

    Example: apictl reset-factors ada@example.com
    """
    found = await service(call).list_factors(ref(user))
    await call.confirm("removes every second factor of", expected=found.user)
    left, changed = await service(call).reset_factors(ref(user))
    return Item(left.model_dump(mode="json"), call.changed(changed=changed))
