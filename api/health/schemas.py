"""What the health routes answer."""

from typing import Literal

from pydantic import BaseModel


class Health(BaseModel):
    """The process answers; for readiness, so does its database, at the schema of this code."""

    status: Literal["ok"] = "ok"
