"""One name all the way, from the route to the command; and what a command must say of itself."""

import inspect
import shlex
from importlib import import_module
from typing import Any, Final

import pytest

from api.main import ROUTERS, create_app
from cli.app import build
from cli.commands import COMMANDS, load
from tests.project.code import modules
from tools.docs import api_routes

# What handlers and dependencies call by themselves.
HELPERS: Final = {"page_of", "prefers_dry_run", "query_names", "shown", "shown_outcome", "shown_role", "takes"}

ONLY_HTTP: Final = {
    "live": "a process that answers on the terminal is alive",
    "ready": "the terminal has migration-status, and fails by itself where there is no database",
    "token_endpoint": "on the terminal, access to the database stands for the password; see create-token",
    "end_own_session": "the terminal has no session; see revoke-token",
    "revoke_by_holder": "whoever holds a token ends it; the terminal has revoke-token and revoke-api-key",
    "server_metadata": "for OAuth clients",
    "start_device": "for a device that waits, as apictl login does",
    "show_device": "for whoever decides, on the page that they open",
    "approve_device": "the terminal's operator is no user; see create-token",
    "deny_device": "the terminal's operator is no user",
    "list_own_factors": "the terminal's operator is no user",
    "enroll_totp": "the terminal's operator is no user",
    "enroll_passkey": "a browser makes it, for whoever is logged in",
    "confirm_factor": "the terminal's operator is no user",
    "passkey_options": "for a browser that logs somebody in",
    "remove_factor": "the terminal's operator is no user; see reset-factors",
    "new_recovery_codes": "the terminal's operator is no user",
    "register": "the terminal has invite-user and create-user",
    "complete_registration": "by the link in a mail, and nobody else has it",
    "forgot_password": "the terminal has send-reset",
    "reset_password": "by the link in a mail, and nobody else has it",
    "confirm_email": "by the link in a mail, and nobody else has it",
    "verify_my_email": "the terminal's operator is no user; see verify-email",
    "change_my_email": "the terminal's operator is no user; see update-user",
    "jwks": "for whoever verifies our tokens; list-keys -o json has the same",
    "show_me": "the terminal's operator is no user",
    "update_me": "the terminal's operator is no user",
    "change_my_password": "the terminal's operator is no user",
}
ONLY_TERMINAL: Final = {
    "rollback": "it loses data: whoever does it sees what, and has access to the database",
    "stamp": "it repairs what HTTP needs whole",
    "check_models": "a developer's question",
    "make_migration": "it writes source",
    "bootstrap": "before it, there is neither a schema nor anybody whom a server would let in",
    "serve": "starts what would have to answer",
    "work": "sends what HTTP has queued",
    "dev": "starts what would have to answer",
    "login": "asks a server over HTTP",
    "logout": "asks a server over HTTP",
    "whoami": "asks a server over HTTP",
    "quickstart": "starts what would have to answer",
    "show_config": "this machine's settings; a server's own are its operator's",
    "completion": "for a shell",
}
NAMES: Final = list(COMMANDS)


def test_one_name_at_both_doors() -> None:
    routes = {route.name for route in api_routes()}
    commands = {name.replace("-", "_") for name in COMMANDS}
    assert routes - commands == set(ONLY_HTTP)
    assert commands - routes == {name.replace("-", "_") for name in ONLY_TERMINAL}


def test_no_request_waits_for_a_thread() -> None:
    """FastAPI runs what is no coroutine in another thread: four such functions are a fifth of a request's time."""
    names = [module.__name__ for module in modules() if module.__name__.endswith((".dependencies", ".router"))]
    found = {
        f"{name}.{function.__name__}": inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        for name in names
        for function in vars(import_module(name)).values()
        if inspect.isfunction(function) and function.__module__ == name and function.__name__ not in HELPERS
    }
    assert len(found) > 80
    assert [name for name, runs_here in found.items() if not runs_here] == []


def test_handler_is_operation_id(settings: Any) -> None:
    paths = create_app(settings).openapi()["paths"]
    described = {operation["operationId"] for methods in paths.values() for operation in methods.values()}
    handlers = [route.endpoint.__name__ for route in api_routes()]
    assert len(handlers) == len(set(handlers)), "two handlers have one name"
    assert described == set(handlers)
    assert len(ROUTERS) == len(set(map(id, ROUTERS)))


@pytest.mark.parametrize("name", NAMES)
def test_help(name: str) -> None:
    text = inspect.getdoc(load(name)) or ""
    assert text.partition("\n")[0] == COMMANDS[name].summary
    examples = [line for line in text.splitlines() if line.startswith("Example: ")]
    assert examples, f"{name} shows no example"
    for example in examples:
        program, command, *rest = shlex.split(example.removeprefix("Example: "))
        assert (program, command) == ("apictl", name)
        # Reads the options and arguments, and fails if one does not exist; runs nothing.
        build(name).make_context(name, rest)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_help(name: str) -> None:
    silent = [parameter.name for parameter in build(name).params if not parameter.help]
    assert not silent


@pytest.mark.parametrize("name", NAMES)
def test_no_coroutine(name: str) -> None:
    # Typer would call it, get a coroutine, and exit 0 without having run it.
    assert not inspect.iscoroutinefunction(load(name))
    assert not inspect.iscoroutinefunction(build(name).callback)
