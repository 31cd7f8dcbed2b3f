"""Files that say what there should be: one, a folder of them, or standard input."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.documents import Loaded, files_of, parsed
from cli.secrets import decoded, read_private

if TYPE_CHECKING:
    from api.core.errors import ApictlError
    from api.state.schemas import State

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a password is that stands in no file of states: in a variable, or in a file that others may not read."""

    variable: str = ""
    file: Path | None = None

    def read(self, email: str) -> str:
        """Return the password of somebody who is created.

        Raises:
            ApictlError: It is not there, or everybody can read it.
        """
        from api.core.errors import MissingInput

        if self.file is not None:
            return decoded(read_private(self.file), str(self.file))
        found = os.environ.get(self.variable)
        if not found:
            raise MissingInput(f"{email} is to be created, and their password is not in the variable {self.variable}")
        return found


@dataclass(frozen=True, slots=True)
class Files:
    """A state as files say it, where its passwords are, by addresses, and where each part of it stands."""

    state: "State"
    sources: dict[str, Source]
    loaded: Loaded


def located(refused: "ApictlError", loaded: Loaded) -> "ApictlError":
    """Return a refusal of what a state says, with the place of each part that is refused."""
    from api.core.errors import FieldError

    errors = [
        FieldError(item["field"], f"{loaded.place(where(item['field']))}: {item['message']}", item["code"])
        for item in refused.errors
    ]
    if not errors:
        return refused
    refused.detail, refused.errors = f"{errors[0]['field']}: {errors[0]['message']}", tuple(errors)
    return refused


def where(field_name: str) -> tuple[str | int, ...]:
    """Return the place in the data of a field, as `users.0.email`."""
    return tuple(int(part) if part.isdecimal() else part for part in field_name.split("."))


def load(names: Sequence[Path]) -> Files:
    """Return the state that files, folders of files, or standard input (`-`) say together.

    Raises:
        BadRequest: One cannot be read, is neither YAML nor JSON, or holds a password.
        InvalidInput: It says what no state can; each error has its place.
    """
    from pydantic import ValidationError

    from api.core.errors import BadRequest, InvalidInput
    from api.state.schemas import State

    whole = Loaded()
    if [*map(str, names)].count("-") > 1:
        raise BadRequest("Standard input is read once", hint="name - once")
    for name in names:
        for file in files_of(name):
            merge(whole, parsed(file))
    sources = password_sources(whole)
    try:
        state = State.model_validate(whole.data)
    except ValidationError as error:
        refused = InvalidInput.of(error.errors(include_input=False, include_context=False, include_url=False))
        raise located(refused, whole) from None
    return Files(state, {state.users[index].email: source for index, source in sources.items()}, whole)


def merge(whole: Loaded, part: Loaded) -> None:
    """Add what another file says: its lists behind those that are there; its owner, if it names one, is the same.

    Raises:
        BadRequest: It says what another file says differently.
    """
    shift = {name: len(found) for name, found in whole.data.items() if isinstance(found, list)}
    for place, stands in part.places.items():
        match place:
            case (str(name), int(index), *inner) if name in shift:
                whole.places[name, index + shift[name], *inner] = stands
            case _:
                whole.places.setdefault(place, stands)
    for name, value in part.data.items():
        if value is None:
            # A name with nothing behind it.
            continue
        there = whole.data.get(name)
        if isinstance(there, list) and isinstance(value, list):
            there += value
        elif whole.data.setdefault(name, value) != value:
            # Not what it says: a password may be there.
            raise part.refused(
                (name,),
                f"{whole.place((name,))} says another {name}",
                hint="one state has one owner; plan and apply each owner's files by themselves",
            )


def password_sources(whole: Loaded) -> dict[int, Source]:
    """Return where people's passwords are, by their number, and take it out of the data.

    Raises:
        BadRequest: A password stands there itself.
    """
    sources: dict[int, Source] = {}
    users = whole.data.get("users")
    for index, user in enumerate(users if isinstance(users, list) else ()):
        if not isinstance(user, dict) or user.get("password") is None:
            continue
        place = ("users", index, "password")
        match user.pop("password"):
            case {"env": str(variable), **others} if VARIABLE.fullmatch(variable) and not others:
                sources[index] = Source(variable=variable)
            case {"file": str(name), **others} if name and not others:
                # Beside the file that names it, wherever the command runs.
                sources[index] = Source(file=Path(whole.place(place).file).parent / name)
            case _:
                raise whole.refused(
                    place, "a password does not stand here itself", hint="say where: {env: VARIABLE} or {file: PATH}"
                )
    return sources
