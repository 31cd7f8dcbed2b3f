"""What scripts rely on: nothing that they type goes away unnoticed, and what does is said."""

from typing import Any, Final

import pytest

from tools.docs import SNAPSHOT, kept_surface
from tools.surface import breaks, merged, snapshot, surface

OLD: Final[Any] = {
    "create-user": {
        "email": {"position": 1, "value": "str", "required": True},
        "--name": {"value": "str"},
        "-n": {"value": "str"},
        "--limit": {"value": "int", "default": 50},
        "--sort": {"value": "str", "choices": ["name", "age"]},
        "--scope": {"value": "str", "repeats": True},
        "--all": {},
    },
    "show-user": {},
}
CHANGES: Final[list[tuple[dict[str, Any], list[str]]]] = [
    ({"--name": None}, ["--name is gone"]),
    ({"-n": None}, ["-n is gone"]),
    ({"--name": None, "--full-name": {"value": "str"}}, ["--name is gone"]),
    ({"--limit": {"value": "int", "default": 20}}, ["--limit had the default 50, and has 20"]),
    ({"--limit": {"value": "int"}}, ["--limit had the default 50, and has None"]),
    ({"--limit": {"value": "float", "default": 50}}, ["--limit had the value 'int', and has 'float'"]),
    ({"--all": {"value": "str"}}, ["--all had the value None, and has 'str'"]),
    ({"--sort": {"value": "str", "choices": ["name", "size"]}}, ["--sort takes no more: age"]),
    ({"--name": {"value": "str", "choices": ["ada"]}}, ["--name takes no more: what is none of its choices"]),
    ({"--name": {"value": "str", "required": True}}, ["--name is required now"]),
    ({"--scope": {"value": "str"}}, ["--scope may not be repeated any more"]),
    ({"role": {"position": 2, "value": "str", "required": True}}, ["role is new, and required"]),
    ({"--why": {"value": "str", "required": True}}, ["--why is new, and required"]),
    (
        {"email": {"position": 2, "value": "str", "required": True}, "kind": {"position": 1, "value": "str"}},
        ["email had the position 1, and has 2"],
    ),
    # What every script outlives.
    ({"--why": {"value": "str"}}, []),
    ({"role": {"position": 2, "value": "str"}}, []),
    ({"--sort": {"value": "str", "choices": ["name", "age", "size"]}}, []),
    ({"--sort": {"value": "str"}}, []),
    ({"email": {"position": 1, "value": "str"}}, []),
    ({"--name": {"value": "str", "repeats": True}}, []),
]


def changed(changes: dict[str, Any]) -> Any:
    """Return the old surface with other facts for some spellings of a command; None takes one away."""
    facts = OLD["create-user"] | changes
    return OLD | {"create-user": {name: fact for name, fact in facts.items() if fact is not None}}


def test_scripts_go_on() -> None:
    broken = breaks(kept_surface(), surface())
    assert not broken, (
        f"this breaks scripts: {'; '.join(broken)}. If it has to be: remove the command from {SNAPSHOT.name} by hand, "
        "run `make docs`, and say it in CHANGELOG.md"
    )


def test_everything_is_in_it() -> None:
    kept = kept_surface()
    assert {"--help", "-h", "--version", "-V"} == set(kept["apictl"])
    assert kept["create-user"]["--if-exists"] == {
        "value": "str", "choices": ["fail", "skip", "update"], "default": "fail",
    }  # fmt: skip
    assert kept["create-user"]["email"] == {"position": 1, "value": "str", "required": True}
    assert kept["list-users"]["--inactive"] == kept["list-users"]["--no-color"] == {}
    assert kept["create-role"]["--scope"]["repeats"] is True
    assert kept["list-users"]["-o"] == kept["list-users"]["--output"]


@pytest.mark.parametrize(("changes", "said"), CHANGES)
def test_breaks(changes: dict[str, Any], said: list[str]) -> None:
    new = changed(changes)
    assert breaks(OLD, new) == [f"apictl create-user {what}" for what in said]
    kept = merged(OLD, new)
    # What breaks is still said when `make docs` has run, and what does not is taken up.
    assert breaks(kept, new) == breaks(OLD, new)
    assert snapshot(merged(kept, new)) == snapshot(kept)
    if not said:
        assert kept == new


def test_commands() -> None:
    new = {name: facts for name, facts in OLD.items() if name != "show-user"} | {"find-user": {"--name": {}}}
    assert breaks(OLD, new) == ["apictl show-user is gone"]
    assert merged(OLD, new) == OLD | new


def test_a_person_decides() -> None:
    new = changed({"--name": None, "--why": {"value": "str", "required": True}})
    edited = {name: facts for name, facts in OLD.items() if name != "create-user"}
    assert breaks(merged(edited, new), new) == []
    assert merged(edited, new) == new
