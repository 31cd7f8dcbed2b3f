"""Files that say what there should be: one, a folder of them, or standard input."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.documents import Loaded, files_of, parsed
from cli.secrets import decoded, read_private

if TYPE_CHECKING:
    from api.state.schemas import State


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


def load(names: Sequence[Path]) -> "tuple[State, dict[str, Source]]":
    """Return the state that files, folders of files, or standard input (`-`) say together, and where passwords are.

    Raises:
        BadRequest: One cannot be read, is neither YAML nor JSON, or holds a password.
        InvalidInput: It says what no state can; each error has its place.
    """
    from pydantic import ValidationError

    from api.core.errors import FieldError, InvalidInput, field_name
    from api.state.schemas import State

    whole = Loaded()
    for name in names:
        for file in files_of(name):
            join(whole, parsed(file))
    sources = taken_out(whole)
    try:
        state = State.model_validate(whole.data)
    except ValidationError as error:
        errors = []
        for item in error.errors(include_input=False, include_context=False, include_url=False):
            found = FieldError.of(item, field_name(item["loc"]))
            found["message"] = f"{whole.place(item['loc'])}: {found['message']}"
            errors.append(found)
        first = errors[0]
        raise InvalidInput(f"{first['field']}: {first['message']}", errors=errors[:50]) from None
    return state, {state.users[index].email: source for index, source in sources.items()}


def join(whole: Loaded, part: Loaded) -> None:
    """Add what another file says: its lists behind those that are there; its owner, if it names one, is the same.

    Raises:
        BadRequest: It says what another file says differently.
    """
    shift = {name: len(found) for name, found in whole.data.items() if isinstance(found, list)}
    for where, place in part.places.items():
        match where:
            case (str(name), int(index), *inner) if name in shift:
                whole.places[name, index + shift[name], *inner] = place
            case _:
                whole.places.setdefault(where, place)
    for name, value in part.data.items():
        there = whole.data.get(name)
        if isinstance(there, list) and isinstance(value, list):
            there += value
        elif whole.data.setdefault(name, value) != value:
            raise part.refused((name,), f"{name} is {there!r} in {whole.place((name,))}")


def taken_out(whole: Loaded) -> dict[int, Source]:
    """Return where people's passwords are, by their number, and take it out of the data.

    Raises:
        BadRequest: A password stands there itself.
    """
    sources: dict[int, Source] = {}
    users = whole.data.get("users")
    for index, user in enumerate(users if isinstance(users, list) else ()):
        if not isinstance(user, dict) or user.get("password") is None:
            continue
        where = ("users", index, "password")
        match user.pop("password"):
            case {"env": str(variable), **others} if variable and not others:
                sources[index] = Source(variable=variable)
            case {"file": str(name), **others} if name and not others:
                # Beside the file that names it, wherever the command runs.
                sources[index] = Source(file=Path(whole.place(where).file).parent / name)
            case _:
                raise whole.refused(
                    where,
                    "a password does not stand here itself",
                    hint="{env: VARIABLE} or {file: PATH} says where it is",
                )
    return sources
