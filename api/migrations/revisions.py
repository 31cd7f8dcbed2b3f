"""Which migrations the code has, read from their files without loading Alembic. No database here."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal, cast

import api
from api.core.errors import ApictlError, Kind

PACKAGE: Final = Path(api.__file__).parent
# In the wheel the folder travels inside the package; in a clone it stands at the top.
PACKAGED: Final = PACKAGE / "_alembic"
NAMES: Final = {"revision", "down_revision"}
Phase = Literal["expand", "contract"]


class BrokenMigrations(ApictlError):
    """The migration files do not form one chain."""

    kind = Kind.MISCONFIGURED
    code = "broken-migrations"
    title = "The migrations do not form one chain"


@dataclass(frozen=True, slots=True)
class Revision:
    """One migration.

    Attributes:
        id: Its revision.
        text: What it does, in a line.
        parent: The one that it comes after.
        phase: Whether it only adds, or takes something away that servers of an older version may use. Which of the two
            is written in its file; one that does not say so is taken to take something away.
        unused_since: Of one that takes away: the revision from which on no version uses it any more.
        commits: Whether a part of it runs outside of a transaction, as `CREATE INDEX CONCURRENTLY` has to.
        accepted: What `migrations.lint` would say and its author knows better; in its file, each with a reason.
    """

    id: str
    text: str
    parent: str | None
    phase: Phase = "contract"
    unused_since: str | None = None
    commits: bool = False
    accepted: frozenset[str] = frozenset()


def folder() -> Path:
    """Return the folder with `env.py` and `versions/`."""
    return PACKAGED if PACKAGED.is_dir() else PACKAGE.parent / "alembic"


@cache
def chain() -> tuple[Revision, ...]:
    """Return every migration, the first one first.

    Raises:
        BrokenMigrations: Two claim the same parent, or one's parent is missing.
    """
    found = [read(path) for path in sorted((folder() / "versions").glob("*.py"))]
    by_parent = {revision.parent: revision for revision in found}
    ordered: list[Revision] = []
    while (following := by_parent.pop(ordered[-1].id if ordered else None, None)) is not None:
        ordered.append(following)
    if len(ordered) != len(found):
        parents = [one.parent for one in found]
        twice = [one for one in found if parents.count(one.parent) > 1]
        wrong = sorted(f"{one.id} after {one.parent}" for one in twice or found if twice or one not in ordered)
        raise BrokenMigrations(
            cause=f"{'two come after one' if twice else 'outside of the chain'}: {', '.join(wrong)}",
            hint="two come after one, or one comes after none: correct down_revision in one of the files",
        )
    for position, revision in enumerate(ordered):
        if revision.unused_since is not None and revision.unused_since not in {one.id for one in ordered[:position]}:
            raise BrokenMigrations(
                cause=f"{revision.id}: unused_since is {revision.unused_since}", hint="it names a migration before it"
            )
    return tuple(ordered)


def head() -> str | None:
    """Return the newest migration's id."""
    return chain()[-1].id if chain() else None


def read(path: Path) -> Revision:
    """Return what a migration file says of itself, without running it.

    Raises:
        BrokenMigrations: It does not say which revision it is, or after which.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), path.name)
    except (SyntaxError, ValueError) as error:
        raise BrokenMigrations(cause=f"{path.name} is no Python: {error}", hint="correct the file") from None
    values: dict[str, str | None] = {}
    accepted: list[str] = []
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
                values[target.id] = None if value.value is None else str(value.value)
            if isinstance(target, ast.Name) and target.id == "accepted" and isinstance(value, ast.Dict):
                accepted = [str(key.value) for key in value.keys if isinstance(key, ast.Constant)]
    if not values.keys() >= NAMES:
        raise BrokenMigrations(
            cause=f"{path.name} does not say its revision and down_revision",
            hint="apictl make-migration writes such files; what is no migration belongs elsewhere",
        )
    phase = values.get("phase", "contract")
    if phase not in {"expand", "contract"}:
        raise BrokenMigrations(cause=f"{path.name}: phase is {phase}", hint='it is "expand" or "contract"')
    return Revision(
        id=str(values["revision"]),
        text=(ast.get_docstring(tree) or "").partition("\n")[0].rstrip("."),
        parent=values["down_revision"],
        phase=cast("Phase", phase),
        unused_since=values.get("unused_since"),
        commits=any(isinstance(node, ast.Attribute) and node.attr == "autocommit_block" for node in ast.walk(tree)),
        accepted=frozenset(accepted),
    )
