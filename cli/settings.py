"""The terminal door to this machine's settings."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.call import Call
from cli.context import command
from cli.output import Listing

if TYPE_CHECKING:
    from api.config import Given


@command("local")
async def show_config(
    call: Call,
    *,
    origin: Annotated[bool, typer.Option("--origin", help="Where each value comes from.", show_default=False)] = False,
) -> Listing:
    """Show the settings that commands work with here, without secrets.

    An origin is a file and its line, the environment, or the default; with the variable's name, if it is another one.

    Example: apictl show-config --origin
    """
    from api.config import given, variable_name

    found = given()
    origins = origins_of(found) if origin else {}
    items = []
    for name in type(call.settings).model_fields:
        variable = variable_name(name)
        where = {"origin": origins.get(variable, "default")} if origin else {}
        items.append({"variable": variable, "value": shown(name, getattr(call.settings, name))} | where)
    columns = ("variable", "value", *(["origin"] if origin else []))
    return Listing(items, None, columns, columns)


def shown(name: str, value: Any) -> Any:
    """Return a setting as it may be seen: of a secret, only that it is set; of a database URL, all but its password."""
    from pydantic import SecretStr

    from api.core.connecting import redact

    if isinstance(value, SecretStr):
        return redact(value.get_secret_value()) if name == "database_url" else "***"
    return value if value is None or isinstance(value, int | float) else str(value)


def origins_of(found: "dict[str, Given]") -> dict[str, str]:
    """Return where each variable is set."""
    from api.env_file import lines

    numbers = {file: lines(file) for file in {one.file for one in found.values()} if file is not None}
    return {
        name: ("environment" if one.file is None else f"{one.file}:{numbers[one.file][one.variable]}")
        + ("" if one.variable == name else f" ({one.variable})")
        for name, one in found.items()
    }
