"""What these tests know of the code: its files, and its modules."""

import ast
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

import api
import cli

ROOT: Final = Path(__file__).parents[2]


def modules() -> list[ModuleType]:
    """Return every module of the application and of the terminal tool."""
    names = [
        found.name
        for package in (api, cli)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    return [import_module(name) for name in names]


def sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield the path and the syntax tree of every Python file in these folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def features(having: str) -> list[str]:
    """Return the names of the features that have this file."""
    return sorted(path.parent.name for path in (ROOT / "api").glob(f"*/{having}"))
