"""The Typer application: builds only the command that runs, and for help only its name and its one line."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from api import __version__
from cli.commands import COMMANDS, EPILOG, load


class LazyGroup(TyperGroup):
    """Finds commands in the table instead of importing them all."""

    listing = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # What is listed, and what a misspelt name is compared with.
        self.commands = dict.fromkeys(COMMANDS, Any)  # type: ignore[arg-type]  # only its keys are read

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command: whole to run it, or without its options to list it."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        if self.listing:
            return build(cmd_name, placeholder, help_text=COMMANDS[cmd_name].summary)
        return build(cmd_name, load(cmd_name))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help of `apictl` itself."""
        self.listing = True
        super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the name of a command."""
        self.listing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self.listing = False


def placeholder() -> None:
    """Stand for a command that is listed and not run."""


def build(name: str, function: Any, *, help_text: str | None = None) -> Any:
    """Return the command that Typer makes of a function."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    single.command(
        name,
        help=help_text,
        rich_help_panel=COMMANDS[name].panel,
        context_settings={"help_option_names": ["-h", "--help"]},
    )(function)
    return typer.main.get_command(single)


def make_app() -> typer.Typer:
    """Return the application."""
    app = typer.Typer(
        name="apictl",
        cls=LazyGroup,
        epilog=EPILOG,
        no_args_is_help=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True)
    def root(
        context: typer.Context,
        *,
        version: Annotated[
            bool, typer.Option("--version", "-V", help="Print the version.", is_eager=True, show_default=False)
        ] = False,
    ) -> None:
        """Manage users, tokens and migrations from the terminal, by the rules of the HTTP API.

        Example: apictl create-user ada@example.com --generate-password
        """
        if version:
            print(f"apictl {__version__}")
            raise typer.Exit
        if context.invoked_subcommand is None:
            # As `git` does: the help is an answer, but a script that forgot its command must not go on.
            print(context.get_help())
            raise typer.Exit(2)

    return app
