"""Who may import whom: that import-linter's contracts leave nobody out, and two rules that it cannot state."""

import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import grimp
import pytest

from tests.project.code import ROOT

PYPROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS: Final = {contract["id"]: contract for contract in PYPROJECT["tool"]["importlinter"]["contracts"]}
# Their place is in the web framework's hands; everything else must be neutral.
HTTP: Final = (
    "api.main",
    "api.*.router",
    "api.*.dependencies",
    "api.tokens.route",
    "api.idempotency.replies",
    "api.core.deadlines",
    "api.core.dependencies",
    "api.core.answers",
    "api.core.connections",
    "api.core.cors",
    "api.core.forms",
    "api.core.bodies",
    "api.core.front",
    "api.core.heads",
    "api.core.headers",
    "api.core.plans",
    "api.core.pages",
    "api.core.problems",
    "api.core.proxies",
    "api.core.stopping",
    "api.core.tracing",
    "api.core.watch",
    "api.core.writing",
)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(
        "api", "cli", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )


def leaves(graph: grimp.ImportGraph, package: str) -> Iterator[str]:
    """Yield the modules of a package that hold code: not the packages themselves."""
    for module in sorted(graph.find_descendants(package)):
        if not graph.find_children(module):
            yield module


def matches(module: str, patterns: list[str] | tuple[str, ...]) -> bool:
    return any(fnmatch(module, pattern) or module.startswith(f"{pattern}.") for pattern in patterns)


def test_every_module_stands_in_a_row(graph: grimp.ImportGraph) -> None:
    rows = [module.strip() for row in CONTRACTS["rows"]["layers"] for module in row.split(":")]
    missing = [module for module in leaves(graph, "api") if not matches(module, rows)]
    assert not missing, f'pyproject.toml: no row of the contract "rows" has {missing}'


def test_every_module_is_neutral_or_http(graph: grimp.ImportGraph) -> None:
    neutral = CONTRACTS["neutral"]["source_modules"]
    missing = [module for module in leaves(graph, "api") if not matches(module, neutral) and not matches(module, HTTP)]
    assert not missing, f'pyproject.toml: the contract "neutral" does not have {missing}'


def test_no_cycles(graph: grimp.ImportGraph) -> None:
    ours = graph.find_descendants("api") | graph.find_descendants("cli") | {"api", "cli"}
    imports = {module: graph.find_modules_directly_imported_by(module) for module in ours}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"modules that import each other: {' -> '.join(error.args[1])}")


def test_the_embedded_postgresql_stands_alone(graph: grimp.ImportGraph) -> None:
    allowed = {"api", "api.core.errors", *sys.stdlib_module_names}
    for module in graph.find_descendants("api.postgres"):
        imported = graph.find_modules_directly_imported_by(module)
        foreign = {name for name in imported if not name.startswith("api.postgres")} - allowed
        assert not foreign, f"{module} imports {foreign}"
