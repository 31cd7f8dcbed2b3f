"""The JSON Schema of files of states, for editors: the body of `POST /v1/plan`, but for passwords."""

import json
from typing import Any, Final

from api.state.schemas import State

# What `cli.state_files` reads instead: no file that others read holds a password.
SOURCE: Final[dict[str, Any]] = {
    "description": "Where their password is, if they are created now: in a variable, or in a file beside this one.",
    "oneOf": [
        {
            "type": "object",
            "properties": {name: {"type": "string", "minLength": 1}},
            "required": [name],
            "additionalProperties": False,
        }
        for name in ("env", "file")
    ],
}


def schema() -> str:
    """Return the schema, as JSON."""
    found = State.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "What there should be, for apictl plan and apictl apply"
    # Of a folder's files, one says it.
    found.pop("required")
    found["$defs"]["UserState"]["properties"]["password"] = SOURCE
    return json.dumps(found, indent=2) + "\n"
