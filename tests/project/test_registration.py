"""Every feature is registered where it has to be: one line each, and these tests name the one that is missing."""

import ast
from importlib import import_module

import pytest

from api.main import ROUTERS
from cli.commands import COMMANDS
from tests.project.code import features, sources


@pytest.mark.parametrize("feature", features("router.py"))
def test_router(feature: str) -> None:
    router = import_module(f"api.{feature}.router").router
    assert any(router is registered for registered in ROUTERS), (
        f"api/main.py lacks: from api.{feature}.router import router as {feature}, and {feature} in ROUTERS"
    )


@pytest.mark.parametrize("feature", features("models.py"))
def test_models(feature: str) -> None:
    ((_, tree),) = (found for found in sources("api") if found[0] == "api/models.py")
    imported = {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and [name.name for name in node.names] == ["models"]
    }
    assert f"api.{feature}" in imported, f"api/models.py lacks: from api.{feature} import models as {feature}"


def test_commands() -> None:
    defined = {
        (path.removesuffix(".py").replace("/", "."), node.name.replace("_", "-"))
        for path, tree in sources("cli")
        for node in tree.body
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
        and any("command(" in ast.unparse(decorator) for decorator in node.decorator_list)
    }
    registered = {(entry.module, name) for name, entry in COMMANDS.items()}
    missing = [f'    "{name}": Entry("{module}", …),' for module, name in sorted(defined - registered)]
    assert not missing, "COMMANDS in cli/commands.py lacks:\n" + "\n".join(missing)
    assert registered == defined
