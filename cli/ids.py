"""Ids that somebody typed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID


def id_of(text: str, field: str, listing: str) -> "UUID":
    """Return the id that was typed.

    Raises:
        InvalidInput: It is none, as HTTP says of a path's.
    """
    from uuid import UUID

    from api.core.errors import FieldError, InvalidInput

    try:
        return UUID(text)
    except ValueError:
        problem = f"it is not an id; see: apictl {listing}"
        raise InvalidInput(f"{field}: {problem}", errors=[FieldError(field, problem, "uuid_parsing")]) from None
