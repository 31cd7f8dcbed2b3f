"""Commands that are done once under a key of whoever runs them, however often they are run."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from cli.output import Format, Item, Listing, Report, Result, Script

if TYPE_CHECKING:
    from cli.call import Call

DONE_BEFORE: Final = "It was done before, under this --idempotency-key: this is what came of it then."
KINDS: Final[dict[str, type[Any]]] = {kind.__name__: kind for kind in (Item, Listing, Script, Report)}


async def once(call: "Call", key: str | None, asked: dict[str, Any], work: Callable[[], Awaitable[Result]]) -> Result:
    """Return what a command has to say; what it said the first time, if it was done under this key before.

    What is typed, or read from a file or from stdin, is no part of what was asked for.

    Raises:
        BadRequest: It is no key.
        RequestInProgress: Another process does the same just now.
        IdempotencyKeyReused: The key stands for another command.
    """
    if key is None or call.dry_run:
        return await work()
    from api.idempotency.service import Once

    held = Once(call.session, call.actor, key, json.dumps(asked, sort_keys=True, default=str).encode())
    before = await held.find()
    if before is not None:
        call.say(DONE_BEFORE)
        return unpacked(before)
    result = await work()
    await held.keep(packed(result))
    return result


def packed(result: Result) -> bytes:
    """Return a result as it is kept."""
    return json.dumps({"kind": type(result).__name__, "fields": asdict(result)}, default=str).encode()


def unpacked(kept: bytes) -> Result:
    """Return what `packed` was given."""
    said = json.loads(kept)
    fields = said["fields"]
    if "form" in fields:
        fields["form"] = Format(fields["form"])
    result: Result = KINDS[said["kind"]](**fields)
    return result
