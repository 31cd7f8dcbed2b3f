"""What the doctor says."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["fail", "warn", "skipped", "ok"]
ORDER: Final[tuple[Status, ...]] = ("fail", "warn", "skipped", "ok")


class Check(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(extra="forbid")

    name: str
    status: Annotated[Status, Field(description="`skipped`: it could not be looked at, for what failed before.")]
    detail: Annotated[str, Field(description="What was found.")]
    hint: Annotated[str | None, Field(description="What to do about it.")] = None
    code: Annotated[str | None, Field(description="Of what fails: the code of the error that it leads to.")] = None


class Diagnosis(BaseModel):
    """Everything that was looked at; what needs somebody first."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[Status, Field(description="The worst of all; `ok` and `warn` are no failure.")]
    checks: list[Check]

    @classmethod
    def of(cls, checks: list[Check]) -> "Diagnosis":
        """Return the checks in the order in which somebody should see to them."""
        ordered = sorted(checks, key=lambda check: ORDER.index(check.status))
        worst = ordered[0].status
        return cls(status="ok" if worst == "skipped" else worst, checks=ordered)
