"""The terminal door to states: what there should be, in files."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.context import Call, command
from cli.errors import json_text
from cli.output import Format, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from api.state.schemas import Applied, Change, IssuedKey, Plan, State
    from api.state.service import StateService
    from cli.client.state import StateClient

Files = Annotated[
    list[Path],
    typer.Option(
        "--file", "-f", help="A file of YAML or JSON, a folder of them, or - for standard input; repeat it.",
        show_default=False,
    ),
]  # fmt: skip
TakeOver = Annotated[
    bool,
    typer.Option(
        "--take-over", help="Also change what another owner's state says otherwise; it is this one's then.",
        show_default=False,
    ),
]  # fmt: skip
# Seconds between two words about how far it is.
SELDOM = 3
SIGNS = {"create": ("+", "green"), "update": ("~", "yellow"), "replace": ("±", "magenta"), "delete": ("-", "red")}


def service(call: Call) -> "StateService | StateClient":
    """Return the service behind these commands, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.state import StateClient

        return StateClient(call.server)
    from api.state.service import StateService

    return StateService(call.session, call.actor, call.runtime.passwords)


@command("read")
async def plan(call: Call, files: Files, *, take_over: TakeOver = False) -> Report:
    """Show what it takes to get to a state, and who made it drift: exit code 10 if anything.

    Example: apictl plan -f state.yaml
    """
    from api.state.schemas import PlanOptions
    from cli.state_files import load

    state, _ = load(files)
    found = await service(call).plan(state, PlanOptions(take_over=take_over))
    body = found.model_dump(mode="json")
    return Report(body, tuple(lines(found)), Format.JSON, exit_code=10 if found.changes else 0)


@command("destroy")
async def apply(
    call: Call,
    files: Files,
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
    from api.core.errors import BadRequest
    from api.state.schemas import ApplyOptions, PlanOptions
    from cli.state_files import load

    state, sources = load(files)
    states = service(call)
    found = await states.plan(state, PlanOptions(take_over=take_over))
    makes_keys = any(change.kind == "api-key" and change.action in {"create", "replace"} for change in found.changes)
    if makes_keys and keys_to is None and not show_keys and not call.dry_run:
        raise BadRequest(
            "API keys are to be made, whose texts are shown once",
            hint="name a file: --keys-to FILE; or --show-keys",
        )
    created = {change.name for change in found.changes if change.action == "create"}
    passwords = {email: source.read(email) for email, source in sources.items() if email in created}
    destroyed = sum(change.destroys for change in found.changes)
    if destroyed:
        for _, line in lines(found):
            call.say(line)
        things = "thing" if destroyed == 1 else "things"
        await call.confirm(f"destroys {destroyed} {things} of the state", expected=state.owner)
    how = ApplyOptions(take_over=take_over, destroy=destroyed > 0)
    done = await states.apply(with_passwords(state, passwords), how, told=progress(call))
    if keys_to is not None and done.keys and not call.dry_run:
        # Before the commit: a key that is not there is better than one that nobody has.
        add_keys(keys_to, done.keys)
    shown = {"id", "user", "name", "key"} if show_keys and not call.dry_run else {"id", "user", "name"}
    body = done.model_dump(mode="json") | {"keys": [key.model_dump(mode="json", include=shown) for key in done.keys]}
    texts = [("bold", f"{key.user}/{key.name}: {key.key}") for key in done.keys if "key" in shown]
    extra = call.changed(changed=bool(done.changes))
    return Report(body | extra, (*lines(done, done=not call.dry_run), *texts), Format.JSON)


@command("read")
async def export_state(
    call: Call,
    owner: Annotated[str, typer.Option("--owner", help="The owner that the state names.", show_default=False)],
) -> Report:
    """Print roles, accounts and live API keys as a state.

    To plan it changes nothing. Nobody's password is in it, and no key's text.

    Example: apictl export-state --owner accounts
    """
    from api.state.schemas import ExportStateOptions

    state = await service(call).export_state(ExportStateOptions(owner=owner))
    return Report(state.model_dump(mode="json", exclude_unset=True), (), Format.YAML)


def progress(call: Call) -> "Callable[[int, int], None]":
    """Return what says now and then how far it is."""
    said = time.monotonic()

    def told(done: int, of: int) -> None:
        nonlocal said
        if time.monotonic() - said > SELDOM:
            said = time.monotonic()
            call.say(f"{done:,} of {of:,} changes made …")

    return told


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


def add_keys(file: Path, keys: "list[IssuedKey]") -> None:
    """Add keys to a file, a JSON object a line.

    Raises:
        BadRequest: It cannot be written, or others can read it.
    """
    from api.core.errors import BadRequest

    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as target:
            if os.fstat(descriptor).st_mode & 0o077:
                raise BadRequest(f"Others can read {file}", hint=f"chmod 600 '{file}'")
            target.writelines(key.model_dump_json() + "\n" for key in keys)
            target.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise BadRequest(f"{file} cannot be written", cause=error.strerror) from None


def lines(plan: "Plan | Applied", *, done: bool = False) -> "Iterator[tuple[str, str]]":
    """Yield a plan as a person reads it, with the style of each line."""
    for change in plan.changes:
        sign, color = SIGNS[change.action]
        yield color, f"{sign} {change.kind} {change.name}{drift(change)}"
        fields = [field for field in change.fields if field.before != field.after]
        width = max((len(field.field) for field in fields), default=0)
        for field in fields:
            before = "" if change.action == "create" else f"{value(field.before)} → "
            yield "", f"    {field.field.ljust(width)}  {before}{value(field.after)}"
    yield "bold", summary(plan.changes, plan.unchanged, done=done)


def drift(change: "Change") -> str:
    """Return who made a change necessary, and when, if it was at another door."""
    if change.changed_by is None:
        return ""
    from cli.tables import readable

    when = readable(change.model_dump(mode="json")["changed_at"])
    return f"   {'removed' if change.action == 'create' else 'changed'} by {change.changed_by}, {when}"


def summary(changes: "list[Change]", unchanged: int, *, done: bool) -> str:
    """Return how much of what there is, as `1 to create, 2 to change; 3 unchanged`."""
    if not changes:
        return f"Nothing to do: {unchanged} unchanged."
    words = {"create": "created", "update": "changed", "replace": "replaced", "delete": "deleted"}
    counts = {action: sum(change.action == action for change in changes) for action in words}
    said = [f"{count} {'' if done else 'to be '}{words[action]}" for action, count in counts.items() if count]
    return f"{', '.join(said)}; {unchanged} unchanged."


def value(found: Any) -> str:
    """Return a value of a field as it would stand in the file."""
    return json_text(found)
