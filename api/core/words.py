"""What Pydantic says for programmers, in words for whoever sent it; by its codes."""

from typing import Final

WORDS: Final = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such field",
    "model_type": "it must be an object",
    "string_type": "it must be text",
    "string_unicode": "it is no valid UTF-8",
    # Nothing has to be longer than that.
    "too_short": "it must not be empty",
    "list_type": "it must be a list",
    "bool_type": "it is neither true nor false",
    "bool_parsing": "it is neither true nor false",
    "model_attributes_type": "it must be an object",
}
