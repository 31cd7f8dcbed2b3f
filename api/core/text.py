"""The string types that every door takes: one place that refuses what PostgreSQL or a log could not hold."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, StringConstraints


def storable(value: str) -> str:
    """Return the text if PostgreSQL can store it.

    Raises:
        ValueError: It has U+0000 or a lone surrogate, which no UTF-8 text can hold.
    """
    if "\x00" in value:
        raise ValueError("it contains the character U+0000")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("it is no valid UTF-8, or has a lone surrogate") from None
    return value


def one_line(value: str) -> str:
    """Return the text, normalised to NFC, if it has no control character.

    Raises:
        ValueError: It has a control character, or one that reorders what a person sees.
    """
    if value.isascii() and value.isprintable():
        return value.strip()
    for character in storable(value):
        # Controls, line separators, and what is invisible or turns the direction: it lets one name look like another.
        # The joiners stay: several scripts cannot be written without them.
        if unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"} and character not in "\u200c\u200d":
            raise ValueError(f"it contains the character U+{ord(character):04X}")
    return unicodedata.normalize("NFC", value).strip()


Text = Annotated[str, AfterValidator(storable)]
"""Any text that can be stored."""

Line = Annotated[str, AfterValidator(one_line)]
"""Text without control characters, trimmed and in NFC."""

Name = Annotated[str, StringConstraints(max_length=200), AfterValidator(one_line)]
"""What a person or thing is called; may be empty."""
