"""`make docs`: what the documentation says of the code, written from the code; a test compares the two.

README has places for tables, `<!-- table: errors -->` to `<!-- /table -->`; the other files are written as a whole,
those about commands by `tools.reference`, `tools.manual` and `tools.surface`, the schema of states by `tools.editors`.
"""

import json
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

from fastapi.routing import APIRoute

import api
import cli
from api.config import Settings, variable_name
from api.core.errors import ApictlError, Kind
from api.main import ROUTERS
from cli.commands import COMMANDS
from tools import editors, manual, reference, surface
from tools.reference import table

ROOT: Final = Path(__file__).parent.parent
DOCS: Final = ROOT / "docs"
SNAPSHOT: Final = DOCS / "cli-surface.json"
PLACE: Final = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)


class Action(NamedTuple):
    """Something that can be done, by the names it has at the two doors."""

    command: str | None
    route: str | None
    summary: str


def actions() -> Iterator[Action]:
    """Yield every command and every route, those of one name together."""
    routes = {route.name: route for route in api_routes()}
    for name, entry in COMMANDS.items():
        route = routes.pop(name.replace("-", "_"), None)
        yield Action(name, None if route is None else address(route), entry.summary)
    for route in routes.values():
        yield Action(None, address(route), route.description.partition("\n")[0])


def api_routes() -> Iterator[APIRoute]:
    """Yield the routes that the features registered, without the pages for people."""
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)  # noqa: S101 - features serve nothing else
            if route.include_in_schema:
                yield route


def address(route: APIRoute) -> str:
    """Return a route as people write it: `GET /v1/users`."""
    return f"{' '.join(sorted(route.methods or ()))} {route.path}"


def failures() -> list[type[ApictlError]]:
    """Return every failure that has a code, in the order of exit codes."""
    for package in (api, cli):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    ours = [error for error in ApictlError.registry.values() if error.__module__.startswith(("api.", "cli."))]
    return sorted(ours, key=lambda error: (error.kind.exit_code, error.kind.status, error.code))


def commands_table() -> str:
    """Return what can be done, at which door."""
    return table(
        ["command", "route", "what it does"],
        [
            [f"`apictl {command}`" if command else "-", f"`{route}`" if route else "-", summary]
            for command, route, summary in actions()
        ],
    )


def errors_table() -> str:
    """Return every way to fail."""
    return table(
        ["code", "HTTP", "exit", "meaning"],
        [
            [f"`{error.code}`", status(error), str(error.kind.exit_code), error.title]
            for error in failures()
        ],
    )  # fmt: skip


def status(error: type[ApictlError]) -> str:
    """Return the HTTP status of a failure that HTTP can have: a server that is misconfigured does not start."""
    return "-" if error.kind in {Kind.DECLINED, Kind.MISCONFIGURED} else str(error.kind.status)


def settings_table() -> str:
    """Return what a deployment may decide."""
    return table(
        ["setting", "default", "meaning"],
        [[f"`{name}`", f"`{value}`" if value else "-", text] for name, value, text in settings()],
    )


def settings() -> Iterator[tuple[str, str, str]]:
    """Yield the variable, the default and the description of every setting."""
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else str(field.default)
        yield variable_name(name), default, field.description or ""


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "commands": commands_table,
    "errors": errors_table,
    "settings": settings_table,
}


def readme(text: str) -> str:
    """Return a text with its tables as they should be."""
    return PLACE.sub(lambda place: place[1] + TABLES[place[2]]() + place[3], text)


def env_example() -> str:
    """Return `.env.example`."""
    lines = ["# Copy this to .env and set what you need; a variable in the environment wins over its line there.", ""]
    for name, default, text in settings():
        lines += [f"# {text}", f"# {name}={default}", ""]
    return "\n".join(lines[:-1]) + "\n"


def files() -> dict[Path, str]:
    """Return every file that is written from the code, and what it should contain."""
    page = ROOT / "README.md"
    return {
        page: readme(page.read_text(encoding="utf-8")),
        ROOT / ".env.example": env_example(),
        DOCS / "cli.md": reference.page(failures()),
        DOCS / "state.schema.json": editors.schema(),
        SNAPSHOT: surface.snapshot(surface.merged(kept_surface(), surface.surface())),
    } | {DOCS / "man" / name: text for name, text in manual.pages(settings()).items()}


def kept_surface() -> surface.Surface:
    """Return the surface as it was when `make docs` ran last, or as a person has edited it since."""
    content: surface.Surface = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    for path, wanted in files().items():
        if not path.exists() or path.read_text(encoding="utf-8") != wanted:
            path.write_text(wanted, encoding="utf-8")
            sys.stdout.write(f"wrote {path.name}\n")
