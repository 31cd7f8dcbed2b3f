"""Whether a command works on a server or on a database."""

from typing import TYPE_CHECKING, Any

from cli.options import Kind

if TYPE_CHECKING:
    from api.config import Settings


def chosen_server(kind: Kind, settings: "Settings", options: dict[str, Any]) -> str | None:
    """Return the server that a command works on; None: it works on a database, or knows by itself where.

    Raises:
        BadRequest: It cannot do there what was asked for.
        BadSettings: The environment names both.
    """
    from api.core.errors import BadRequest, BadSettings

    flag = options.get("server")
    if kind in {"remote", "local"} or (flag is None and settings.server is None):
        return None
    if "server" not in options:
        raise BadRequest(
            "This works on a database only, and APICTL_SERVER names a server",
            hint="run it where the database is, without APICTL_SERVER",
        )
    if flag is None and settings.database_url is not None:
        raise BadSettings(
            "APICTL_SERVER and APICTL_DATABASE_URL name two places to work on",
            hint="unset one of them; --server names a server for one command",
        )
    if options.get("as_user") is not None:
        raise BadRequest("--as works on a database only", hint="a server knows you by your token: take one of theirs")
    return str(flag or settings.server)
