"""The pinned requirements: hashes, no addresses, and what pyproject.toml asks for."""

import re
import tomllib
from importlib.metadata import distributions
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.code import ROOT

FILES: Final = ["app.txt", "dev.txt"]
PYPROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
GROUPS: Final = PYPROJECT["dependency-groups"]
ASKED: Final = {
    "app.txt": [*PYPROJECT["project"]["dependencies"], *GROUPS["build"]],
    "dev.txt": [*PYPROJECT["project"]["dependencies"], *GROUPS["build"], *GROUPS["dev"]],
}


def text(name: str) -> str:
    return (ROOT / "requirements" / name).read_text(encoding="utf-8")


def pins(name: str) -> list[tuple[Requirement, int]]:
    """Return each pinned requirement, and how many hashes it has."""
    lines = [line for line in text(name).replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    return [
        (Requirement(line.partition("--hash=")[0]), len(re.findall(r"--hash=sha256:[0-9a-f]{64}", line)))
        for line in lines
    ]


def versions(name: str) -> dict[str, str]:
    """Return the version of each package, where it is not pinned twice for different machines."""
    return {f"{canonicalize_name(pin.name)} {pin.marker or ''}": str(pin.specifier) for pin, _ in pins(name)}


@pytest.mark.parametrize("name", FILES)
def test_every_package_is_pinned_and_hashed(name: str) -> None:
    assert len(pins(name)) > 40
    loose = [pin.name for pin, hashes in pins(name) if not hashes or not str(pin.specifier).startswith("==")]
    assert not loose


@pytest.mark.parametrize("name", FILES)
def test_no_addresses(name: str) -> None:
    assert "make lock" in text(name)
    assert not re.findall(r"^.*(?:://|--(?:extra-)?index|--find-links|--trusted-host| @ ).*$", text(name), re.MULTILINE)


@pytest.mark.parametrize("name", FILES)
def test_what_is_asked_for(name: str) -> None:
    pinned: dict[str, list[str]] = {}
    for pin, _ in pins(name):
        pinned.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier).removeprefix("=="))
    for asked in map(Requirement, ASKED[name]):
        found = pinned.get(canonicalize_name(asked.name), [])
        assert found, f"{asked.name} is not in requirements/{name}: run `make lock`"
        assert all(asked.specifier.contains(version) for version in found), f"{asked}, but {found}: run `make lock`"


@pytest.mark.parametrize("name", FILES)
def test_pins_keep_the_extras_that_somebody_asks_for(name: str) -> None:
    """Without them, an older pip takes the newest release of `name[extra]`, and refuses it for want of a hash."""
    pinned = {canonicalize_name(pin.name): pin for pin, _ in pins(name)}
    # Those of other systems are not here.
    installed = {canonicalize_name(found.name): found for found in distributions()}
    for found in (installed[package] for package in pinned.keys() & installed.keys()):
        for asked in map(Requirement, found.requires or ()):
            applies = asked.marker is None or asked.marker.evaluate({"extra": ""})
            if asked.extras and applies and canonicalize_name(asked.name) in pinned:
                kept = pinned[canonicalize_name(asked.name)].extras
                assert asked.extras <= kept, f"{found.name} asks for {asked}: run `make lock`"


def test_development_has_what_production_has() -> None:
    assert versions("app.txt").items() <= versions("dev.txt").items()
