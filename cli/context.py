"""How a body becomes a command: with the options that every command has, and run by `cli.running`."""

import inspect
from collections.abc import Callable
from typing import Any

from cli.call import Body, HostBody, Shown
from cli.options import ONCE, OPTIONS, Kind


def command(
    kind: Kind, *, over_http: bool = True, is_repeatable: bool = False, looks: tuple[str, ...] = ()
) -> Callable[[Body | HostBody], Callable[..., Shown | None]]:
    """Make a body that takes a Call into a command that Typer can run; a host's is a plain function.

    Args:
        kind: What it does.
        over_http: Whether a server can be asked for it.
        is_repeatable: Whether it changes nothing the second time anyway, and so needs no key for that.
        looks: Options with which it only looks.
    """

    def decorate(body: Body | HostBody) -> Callable[..., Shown | None]:
        own = [parameter for name, parameter in inspect.signature(body).parameters.items() if name != "call"]
        left_out = (set() if over_http else {"server"}) | (ONCE.keys() if is_repeatable else set())
        extra = {name: one for name, one in OPTIONS[kind].items() if name not in left_out}

        def run_command(**arguments: Any) -> Shown | None:
            options = {name: arguments.pop(name, default) for name, (_, default) in extra.items()}
            looking = any(arguments[name] for name in looks)
            from cli.running import carry_out

            return carry_out(kind, body, arguments, options, looking=looking)

        run_command.__name__ = body.__name__
        run_command.__doc__ = body.__doc__
        run_command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what Typer reads
            [
                *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
                *(
                    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
                    for name, (annotation, default) in extra.items()
                ),
            ]
        )
        return run_command

    return decorate
