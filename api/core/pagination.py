"""Keyset pages: a cursor names the last row seen, so that a page costs the same wherever it starts."""

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field

from api.core.errors import BadRequest

T = TypeVar("T")

MAX_LIMIT: Final = 200
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]


class Page(BaseModel):
    """What every list answers besides its items; `next_cursor` is null on the last page."""

    model_config = ConfigDict(extra="forbid")

    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page: the value it was sorted by, and its id as the tie-breaker.

    The text is opaque to clients but not secret: every value is checked for its type and bound as a parameter, so a
    made-up cursor can only name another place in the same list.
    """

    sort: str
    value: str | datetime
    id: UUID

    def encode(self) -> str:
        """Return the cursor as URL-safe text."""
        value = self.value.isoformat() if isinstance(self.value, datetime) else self.value
        raw = orjson.dumps([self.sort, value, self.id.hex])
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str | None, *, sort: str) -> "Cursor | None":
        """Return the cursor that `encode` made for this sort order; None where there is none.

        Raises:
            BadRequest: It was not made here, or for another order.
        """
        if text is None:
            return None
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            made_for, value, hexadecimal = json.loads(raw)
            cursor = cls(made_for, cls._typed(made_for, value), UUID(hex=hexadecimal))
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error):
            raise BadRequest(
                "The cursor is not one of this list's",
                hint="take next_cursor from the page before, unchanged",
            ) from None
        if made_for != sort:
            raise BadRequest(
                "The cursor was made for another sort order", hint="ask with the same sort, or start again"
            )
        return cursor

    @staticmethod
    def _typed(sort: Any, value: Any) -> str | datetime:
        if sort.lstrip("-").endswith("_at"):
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                raise ValueError("a cursor's time has a zone")
            return moment.astimezone(UTC)
        if not isinstance(value, str) or "\x00" in value:
            raise ValueError("a cursor's value is text")
        value.encode()
        return value


def cut(rows: list[T], limit: int, place: Callable[[T], Cursor]) -> tuple[list[T], str | None]:
    """Return a page of rows of which one more than `limit` was asked for, and the cursor of the next page or None."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], place(rows[limit - 1]).encode()
