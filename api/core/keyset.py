"""How a page is asked for; apart from what a page is, which a terminal that only asks a server knows too."""

from typing import Any, TypeVar

from sqlalchemy import Select, tuple_

from api.core.pagination import Cursor

S = TypeVar("S", bound="Select[*tuple[Any, ...]]")


def newest_first(statement: S, model: Any, *, limit: int, after: Cursor | None) -> S:
    """Return a statement for one row more than `limit`, from the newest on, or from behind a cursor."""
    if after is not None:
        statement = statement.where(tuple_(model.created_at, model.id) < tuple_(after.value, after.id))
    return statement.order_by(model.created_at.desc(), model.id.desc()).limit(limit + 1)
