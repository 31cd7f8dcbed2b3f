"""The terminal door to mails about accounts, and to what sends them."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.call import Call
from cli.context import command
from cli.output import Item
from cli.users import User, item, ref

if TYPE_CHECKING:
    from api.self_service.service import AccountMailService
    from cli.client.users import UserClient


def service(call: Call) -> "AccountMailService | UserClient":
    """Return the service behind these commands, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.users import UserClient

        return UserClient(call.server)
    from api.self_service.service import AccountMailService
    from api.throttle.service import Throttle

    # The operator is in no network, and asks for nobody's own mail.
    throttle = Throttle(call.runtime, "")
    return AccountMailService(call.session, call.actor, call.settings, call.runtime.passwords, throttle)


@command("write")
async def invite_user(
    call: Call,
    email: Annotated[str, typer.Argument(help="The e-mail address.", show_default=False)],
    full_name: Annotated[str, typer.Option("--full-name", help="The name.")] = "",
    role: Annotated[
        list[str] | None, typer.Option("--role", help="A role that the account gets; more than one may be given.")
    ] = None,
) -> Item:
    """Invite somebody by mail; the account is made when they accept.

    Example: apictl invite-user ada@example.com --full-name "Ada Lovelace" --role support
    """
    from api.self_service.schemas import InvitationCreate

    new = InvitationCreate(email=email, full_name=full_name, roles=role or [])
    invitation, changed = await service(call).invite_user(new)
    tell_of_mail(call, invitation.email, changed=changed)
    return Item(invitation.model_dump(mode="json"), call.changed(changed=changed))


@command("write")
async def send_reset(call: Call, user: User) -> Item:
    """Send a user a link by which they choose a new password.

    Example: apictl send-reset ada@example.com
    """
    outcome = await service(call).send_reset(ref(user))
    tell_of_mail(call, outcome.user.email, changed=outcome.changed)
    return item(call, outcome)


@command("write")
async def verify_email(call: Call, user: User) -> Item:
    """Send a user a link by which they confirm their address.

    Example: apictl verify-email ada@example.com
    """
    outcome = await service(call).verify_email(ref(user))
    if outcome.user.email_verified_at is None:
        tell_of_mail(call, outcome.user.email, changed=outcome.changed)
    else:
        call.say(f"{outcome.user.email} is confirmed already: nothing is sent.")
    return item(call, outcome)


def tell_of_mail(call: Call, address: str | None, *, changed: bool) -> None:
    """Tell whether there will be a mail."""
    if not changed:
        call.say("Nothing new is sent: such a mail was asked for in this very minute.")
    elif not call.dry_run:
        call.say(f"A mail to {address} is queued: a running server sends it, or apictl work.")


@command("host")
def work(
    call: Call,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Send what is due now, and end: exit code 7 if something was not sent.")
    ] = False,
) -> None:
    """Send the mail that is queued, until a signal says stop; what is in hand then is still sent.

    Servers do it too, unless APICTL_WORK_IN_SERVE is false; any number of either may.

    Example: apictl work --once
    """
    from api.core.runtime import held_database
    from cli.logs import begin_log
    from cli.signals import complete

    if not once:
        begin_log(call)
    with held_database(call.settings) as url:
        complete(send(call, url, once=once), is_service=not once)


async def send(call: Call, url: str, *, once: bool) -> None:
    """Send mail that is queued in a database, until it is all sent or a signal comes."""
    import asyncio
    import logging

    from api.core.runtime import Runtime
    from api.mail.sending import MailNotSent
    from api.mail.worker import HANDS, Worker
    from api.migrations.state import require_head
    from api.tokens.keys import Keys

    # What goes on until a signal comes has a log, and what is done once tells a person.
    tell = call.say if once else logging.getLogger("apictl").info
    keys = Keys.load(call.settings)
    async with Runtime.open(call.settings, url=url, pool_size=HANDS) as runtime:
        async with runtime.transaction(readonly=True) as session:
            await require_head(session)
        worker = Worker(runtime, keys.links)
        if "issuer" not in call.settings.model_fields_set:
            tell(f"APICTL_ISSUER is not set: links say {call.settings.public_url}")
        working = asyncio.create_task(worker.drain() if once else worker.run())
        if not once:
            tell("Sending what is queued (Ctrl-C stops it)")
        try:
            await asyncio.shield(working)
        finally:
            if not working.done():
                tell("Told to stop: what is in hand is still sent")
            worker.stop()
            await working
            tell(f"{worker.tally.sent} sent, {worker.tally.failed} not sent")
        waiting, why = await worker.waiting()
    if waiting:
        tell(f"{waiting} will be tried again, when it is time" + (f"; why: {why}" if why else ""))
    if worker.tally.failed:
        raise MailNotSent(f"{worker.tally.failed} mails were not sent", cause=worker.tally.last_error)
