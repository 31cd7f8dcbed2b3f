"""The terminal door to states: what there should be, in files."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cli.call import Call
from cli.context import command
from cli.errors import json_text, printable
from cli.output import Format, Item, Report, check_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from api.state.schemas import Applied, Change, Plan, State
    from api.state.service import StateService
    from cli.client.state import StateClient
    from cli.key_file import KeyLog
    from cli.state_files import Files

Named = Annotated[
    list[Path],
    typer.Option(
        "--file", "-f", help="A file of YAML or JSON, a folder of them, or - for standard input; repeat it.",
        show_default=False,
    ),
]  # fmt: skip
TakeOver = Annotated[
    bool,
    typer.Option(
        "--take-over",
        help="What the state names becomes this owner's, whoever made it and whatever other states say.",
        show_default=False,
    ),
]
SIGNS: Final = {
    "create": ("+", "green", "created"),
    "update": ("~", "yellow", "changed"),
    "renew": ("~", "yellow", "renewed"),
    "replace": ("±", "magenta", "replaced"),
    "delete": ("-", "red", "deleted"),
}
MAKES_A_KEY: Final = {"create", "renew", "replace"}
# Seconds between two words about how far it is; attempts, when others apply states at the same moment.
SELDOM: Final = 3
ATTEMPTS: Final = 5


def service(call: Call) -> "StateService | StateClient":
    """Return the service behind these commands, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.state import StateClient

        return StateClient(call.server)
    from api.state.service import StateService

    return StateService(call.session, call.actor, call.runtime.passwords)


@command("read")
async def plan(call: Call, files: Named, *, take_over: TakeOver = False) -> Report:
    """Show what it takes to get to a state, and who made it drift: exit code 10 if anything.

    Example: apictl plan -f state.yaml
    """
    from api.state.schemas import PlanOptions

    said = read(files)
    found = await placed(said, service(call).plan(said.state, PlanOptions(take_over=take_over)))
    return Report(found.model_dump(mode="json"), tuple(lines(found)), Format.JSON, 0 if found.is_clean else 10)


@command("destroy", is_repeatable=True)
async def apply(
    call: Call,
    files: Named,
    *,
    take_over: TakeOver = False,
    keys_to: Annotated[
        Path | None,
        typer.Option("--keys-to", help="Add the API keys that are made to this file, which nobody else may read."),
    ] = None,
    show_keys: Annotated[
        bool, typer.Option("--show-keys", help="Print the API keys that are made.", show_default=False)
    ] = False,
) -> Report:
    """Make what there is as a state says: all of it or nothing.

    The second time it changes nothing. It deletes only what the same owner made, and asks before. Whoever is there
    keeps their password.

    Example: apictl apply -f state.yaml --keys-to keys.jsonl
    """
    from api.core.errors import ApictlError
    from api.state.schemas import Applied, PlanOptions

    # Before a key is made that nobody would see.
    check_fields(Item(dict.fromkeys(Applied.model_fields)), call.fields)
    if show_keys:
        call.require_shown("keys")
    said = read(files)
    for attempt in range(ATTEMPTS):
        found = await placed(said, service(call).plan(said.state, PlanOptions(take_over=take_over)))
        with ExitStack() as stack:
            log = None if keys_to is None or call.dry_run else stack.enter_context(open_log(keys_to))
            asked = await ask(call, found, log is not None or show_keys)
            try:
                done = await carry_out(call, said, found, take_over=take_over)
            except ApictlError as error:
                # What somebody has looked at is done, or nothing; of what nobody had to look at, there is a next plan.
                if error.code != "stale-plan" or asked or attempt == ATTEMPTS - 1:
                    raise
                continue
            if log is not None:
                keep(call, log, done)
            break
    shown = {"id", "user", "name", "key"} if show_keys and not call.dry_run else {"id", "user", "name"}
    body = done.model_dump(mode="json") | {"keys": [key.model_dump(mode="json", include=shown) for key in done.keys]}
    texts = [("bold", f"{key.user}/{key.name}: {key.key}") for key in done.keys if "key" in shown]
    # What was planned, who made it drift included, is what was done.
    told = (*lines(found, done=not call.dry_run), *texts)
    return Report(body | call.changed(changed=not done.is_clean), told, Format.JSON)


@command("read")
async def export_state(
    call: Call,
    owner: Annotated[str, typer.Option("--owner", help="The owner that the state names.", show_default=False)],
) -> Report:
    """Print all roles, accounts and live API keys as a state, whoever made them.

    To plan it changes nothing. Nobody's password is in it, and no key's text.

    Example: apictl export-state --owner accounts
    """
    from api.state.schemas import ExportStateOptions

    state = await service(call).export_state(ExportStateOptions(owner=owner))
    return Report(state.model_dump(mode="json", exclude_unset=True), (), Format.YAML)


def read(files: list[Path]) -> "Files":
    """Return what files say; a signal ends it, if one is a pipe that has nothing to say."""
    from cli.signals import at_a_prompt
    from cli.state_files import load

    with at_a_prompt():
        return load(files)


async def placed(said: "Files", work: "Coroutine[Any, Any, Any]") -> Any:
    """Await something about a state; a refusal of what it says has its places."""
    from api.core.errors import ApictlError
    from cli.state_files import located

    try:
        return await work
    except ApictlError as error:
        raise located(error, said.loaded) from None


async def ask(call: Call, plan: "Plan", keeps_keys: bool) -> bool:
    """Go on only if whoever is asked lets go what goes, and the keys are kept that come; tell whether they were asked.

    Raises:
        BadRequest: There is no place for the texts of new keys.
    """
    from api.core.errors import BadRequest

    makes_keys = any(change.kind == "api-key" and change.action in MAKES_A_KEY for change in plan.changes)
    if makes_keys and not keeps_keys and not call.dry_run:
        raise BadRequest(
            "API keys are to be made, whose texts are shown once", hint="name a file: --keys-to FILE; or --show-keys"
        )
    destroyed = sum(change.destroys for change in plan.changes)
    if not destroyed or call.yes or call.dry_run:
        return False
    # Also with --quiet: it is what is asked about.
    for _, line in lines(plan):
        typer.echo(printable(line), err=True)
    things = "thing" if destroyed == 1 else "things"
    await call.confirm(f"destroys {destroyed} {things} of the state", expected=plan.owner)
    return True


async def carry_out(call: Call, said: "Files", plan: "Plan", *, take_over: bool) -> "Applied":
    """Apply a state, if it is still what was planned."""
    from api.state.schemas import ApplyOptions

    created = {change.name for change in plan.changes if change.action == "create"}
    passwords = {email: source.read(email) for email, source in said.sources.items() if email in created}
    how = ApplyOptions(take_over=take_over, destroy=any(change.destroys for change in plan.changes), plan=plan.digest)
    done: Applied = await placed(
        said, service(call).apply(with_passwords(said.state, passwords), how, told=progress(call))
    )
    return done


def with_passwords(state: "State", passwords: dict[str, str]) -> "State":
    """Return the state with the passwords of those who are created.

    Raises:
        ValidationError: One is no text that can be a password.
    """
    from api.state.schemas import State

    given = state.model_dump(mode="json", exclude_unset=True)
    for user in given.get("users", ()):
        if user["email"] in passwords:
            user["password"] = passwords[user["email"]]
    return State.model_validate(given)


def open_log(file: Path) -> "KeyLog":
    """Return the file that keys are added to."""
    from cli.key_file import KeyLog

    return KeyLog(file)


def keep(call: Call, log: "KeyLog", done: "Applied") -> None:
    """Write down the keys that were made; in a transaction of ours, before it is committed.

    Raises:
        BadRequest: They cannot be written. On a server they are made all the same, and are named.
    """
    from api.core.errors import BadRequest

    try:
        log.add([key.model_dump_json() for key in done.keys])
    except OSError as error:
        hint = None
        if call.server is not None:
            ids = " ".join(str(key.id) for key in done.keys)
            hint = f"the state is applied, and nobody has these keys: apictl rotate-api-key, for each of {ids}"
        raise BadRequest(f"{log.file} cannot be written", cause=error.strerror, hint=hint) from None


def progress(call: Call) -> "Callable[[int, int], None]":
    """Return what says now and then how far it is."""
    said = time.monotonic()

    def told(done: int, of: int) -> None:
        nonlocal said
        if time.monotonic() - said > SELDOM:
            said = time.monotonic()
            call.say(f"{done:,} of {of:,} changes made …")

    return told


def lines(plan: "Plan", *, done: bool = False) -> "Iterator[tuple[str, str]]":
    """Yield a plan as a person reads it, with the style of each line."""
    for change in plan.changes:
        sign, color, _ = SIGNS[change.action]
        yield color, f"{sign} {change.kind} {change.name}{drift(change)}"
        fields = [field for field in change.fields if field.before != field.after]
        width = max((len(field.field) for field in fields), default=0)
        for field in fields:
            before = "" if change.action == "create" else f"{json_text(field.before)} → "
            after = "in full" if change.action == "renew" else json_text(field.after)
            yield "", f"    {field.field.ljust(width)}  {before}{after}"
    yield from (("cyan", f"> {name}: taken over") for name in plan.taken_over)
    yield from (("cyan", f"< {name}: left as it is, no longer in this state") for name in plan.released)
    yield "bold", summary(plan, done=done)


def drift(change: "Change") -> str:
    """Return who made a change necessary, and when, if it was at another door."""
    if change.changed_by is None:
        return ""
    from cli.tables import readable

    when = readable(change.model_dump(mode="json")["changed_at"])
    return f"   {'removed' if change.action == 'create' else 'changed'} by {change.changed_by}, {when}"


def summary(plan: "Plan", *, done: bool) -> str:
    """Return how much of what there is, as `1 to be created, 2 to be changed; 3 unchanged.`."""
    if not plan.changes:
        return f"Nothing to change: {plan.unchanged} unchanged."
    counts = {action: sum(change.action == action for change in plan.changes) for action in SIGNS}
    said = [f"{count} {'' if done else 'to be '}{SIGNS[action][2]}" for action, count in counts.items() if count]
    return f"{', '.join(said)}; {plan.unchanged} unchanged."
