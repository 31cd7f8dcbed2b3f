"""The Typer application: builds only the command that runs."""

import inspect
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from api import __version__
from cli.commands import COMMANDS, load
from cli.help import page, root_help


class Command(TyperCommand):
    """A command whose help has the look of ours."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help: arguments and options under their panels."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or kind, []).append(record)
        usage = f"{ctx.command_path} {' '.join(self.collect_usage_pieces(ctx))}"
        formatter.write(page(usage, inspect.cleandoc(self.help or ""), panels))


class LazyGroup(TyperGroup):
    """Finds commands in the table instead of importing them all."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # What a misspelt name is compared with.
        self.commands = dict.fromkeys(COMMANDS, Any)  # type: ignore[arg-type]  # only its keys are read

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command."""
        del ctx
        return build(cmd_name) if cmd_name in COMMANDS else None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help of `apictl` itself."""
        del ctx
        formatter.write(root_help())


def build(name: str) -> Any:
    """Return the command that Typer makes of a function."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    single.command(name, cls=Command, context_settings={"help_option_names": ["-h", "--help"]})(load(name))
    return typer.main.get_command(single)


def make_app() -> typer.Typer:
    """Return the application."""
    app = typer.Typer(
        name="apictl",
        cls=LazyGroup,
        add_completion=False,
        no_args_is_help=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        *, version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.", is_eager=True)] = False
    ) -> None:
        if version:
            print(f"apictl {__version__}")
            raise typer.Exit

    return app
