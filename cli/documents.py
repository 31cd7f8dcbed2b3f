"""YAML and JSON with the place of each part, so that whatever is refused is found."""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from api.core.errors import BadRequest

SUFFIXES = {".yaml", ".yml", ".json"}
MAX_BYTES = 16 << 20
TAG = "tag:yaml.org,2002:"
# No state has more than six levels.
DEEPEST = 50
Where = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: file, line and column from 1; 0 where that is not known."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}, column {self.column}" if self.line else self.file


@dataclass(slots=True)
class Loaded:
    """What was read, and the place of each part of it."""

    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Where, Place] = field(default_factory=dict)

    def place(self, where: Where) -> Place:
        """Return where a part stands, or else what it is in."""
        while where not in self.places and where:
            where = where[:-1]
        return self.places.get(where, Place("the state"))

    def refused(self, where: Where, problem: str, hint: str | None = None) -> "BadRequest":
        """Return the failure for a part that cannot be what it is."""
        from api.core.errors import BadRequest

        return BadRequest(f"{self.place(where)}: {problem}", hint=hint)


def files_of(name: Path) -> Sequence[Path]:
    """Return a file, or the files of a folder and of those in it, in their order.

    Raises:
        BadRequest: The folder has none, or cannot be read.
    """
    from api.core.errors import BadRequest

    if not name.is_dir():
        return [name]
    try:
        found = [path for path in name.rglob("*") if not any(part[0] == "." for part in path.relative_to(name).parts)]
        linked = [path for path in found if path.is_symlink() and path.is_dir()]
        every = sorted(path for path in found if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as error:
        raise BadRequest(f"{name} cannot be read", cause=error.strerror) from None
    if linked:
        # What is not read would be taken for what is not named any more.
        raise BadRequest(f"{linked[0]} is a link to another folder", hint="name that folder by itself, with -f")
    if not every:
        raise BadRequest(f"There is no file in {name} that ends in {', '.join(sorted(SUFFIXES))}")
    return every


def parsed(file: Path) -> Loaded:
    """Return what a file says.

    Raises:
        BadRequest: It cannot be read, or is neither YAML nor JSON.
    """
    from api.core.errors import BadRequest

    try:
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadRequest(f"{file} cannot be read", cause=error.strerror) from None
    if len(raw) > MAX_BYTES:
        raise BadRequest(f"{file} is longer than {MAX_BYTES >> 20} MiB")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadRequest(f"{Place(str(file), line, 1)}: it is not UTF-8") from None
    loaded = Loaded(places={(): Place(str(file), 1, 1)})
    data = read(text, str(file), loaded)
    if not isinstance(data, dict):
        raise loaded.refused((), "it is no mapping", hint="it begins with: owner: NAME")
    loaded.data = data
    return loaded


def read(text: str, file: str, loaded: Loaded) -> Any:
    """Return the data of a text, and note the place of each part.

    Raises:
        BadRequest: It is neither YAML nor JSON.
    """
    import yaml

    from api.core.errors import BadRequest

    if file.endswith(".json") or text.lstrip().startswith("{"):
        try:
            data = json.loads(text, object_pairs_hook=each_once)
        except RecursionError:
            # YAML says where.
            with suppress(yaml.YAMLError):
                composed(text.replace("\t", " "), file, loaded)
            raise BadRequest(f"{file}: it is nested too deeply") from None
        except json.JSONDecodeError as error:
            if file.endswith(".json"):
                raise BadRequest(f"{Place(file, error.lineno, error.colno)}: {error.msg}") from None
        except ValueError as error:
            # Two of one name, whose place YAML knows, or a number of thousands of digits.
            with suppress(yaml.YAMLError):
                composed(text.replace("\t", " "), file, loaded)
            raise BadRequest(f"{file}: {error}") from None
        else:
            # Its places as YAML sees them, which knows no tabs, and not every escape.
            with suppress(yaml.YAMLError):
                composed(text.replace("\t", " "), file, loaded)
            return data
    try:
        return composed(text, file, loaded)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file) if mark is None else Place(file, mark.line + 1, mark.column + 1)
        raise BadRequest(f"{place}: {error.problem or error.context or 'it is no YAML'}") from None
    except yaml.reader.ReaderError as error:
        # libyaml counts bytes, and Python's YAML characters.
        before, character, _ = text.partition(chr(error.character))
        place = Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise BadRequest(f"{place}: no YAML has the character {character!a}") from None


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose names are all different.

    Raises:
        ValueError: One is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} is there twice in one object")
    return found


def composed(text: str, file: str, loaded: Loaded) -> Any:
    """Return the data of a YAML document, and note the place of each part."""
    import yaml

    # Event by event: libyaml's own composer follows what is nested to where the stack ends, and dies there.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        builder = Builder(loader, file, loaded)
        while not loader.check_event(yaml.DocumentStartEvent, yaml.StreamEndEvent):
            loader.get_event()
        if isinstance(loader.get_event(), yaml.StreamEndEvent):
            return None
        data = builder.built(())
        loader.get_event()
        if not loader.check_event(yaml.StreamEndEvent):
            raise builder.refused(loader.get_event(), (), "another document begins, and one is read")
        return data
    finally:
        loader.dispose()


@dataclass(frozen=True, slots=True)
class Builder:
    """Makes data of a YAML document's events: every name once, and no references, which make much of little."""

    loader: Any
    file: str
    loaded: Loaded

    def built(self, where: Where) -> Any:
        """Return the data of the next node.

        Raises:
            BadRequest: It refers to another, has a name twice, or is nested too deeply.
        """
        import yaml

        event = self.loader.get_event()
        # What has a name is looked for at its name.
        self.loaded.places.setdefault(where, self._place(event))
        if isinstance(event, yaml.AliasEvent):
            raise self.refused(event, where, "references to another place (*name) are not read here")
        if len(where) > DEEPEST:
            raise self.refused(event, where, "it is nested too deeply")
        if isinstance(event, yaml.SequenceStartEvent):
            parts: list[Any] = []
            while not self.loader.check_event(yaml.SequenceEndEvent):
                parts.append(self.built((*where, len(parts))))
            self.loader.get_event()
            return parts
        if isinstance(event, yaml.MappingStartEvent):
            found: dict[str, Any] = {}
            while not self.loader.check_event(yaml.MappingEndEvent):
                key = self.loader.get_event()
                if not isinstance(key, yaml.ScalarEvent):
                    raise self.refused(key, where, "a name is a text")
                if key.value in found:
                    raise self.refused(key, where, f"{key.value} is there twice")
                self.loaded.places[*where, key.value] = self._place(key)
                found[key.value] = self.built((*where, key.value))
            self.loader.get_event()
            return found
        tag = event.tag or self.loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        # A date, or a number with a point, is text here; so is what could be anything.
        if tag in {f"{TAG}null", f"{TAG}bool", f"{TAG}int"}:
            # A number of thousands of digits is none, nor is what only its tag calls one.
            with suppress(ValueError, LookupError):
                return self.loader.construct_object(yaml.ScalarNode(tag, event.value))
        return event.value

    def refused(self, event: Any, where: Where, problem: str) -> "BadRequest":
        """Return the failure for what stands at an event."""
        self.loaded.places[where] = self._place(event)
        return self.loaded.refused(where, problem)

    def _place(self, event: Any) -> Place:
        return Place(self.file, event.start_mark.line + 1, event.start_mark.column + 1)
