"""The terminal door to the doctor."""

from typing import TYPE_CHECKING, Final

from cli.call import Call
from cli.context import command
from cli.output import Format, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.doctor.schemas import Diagnosis

LOOKS: Final = {"fail": "bold red", "warn": "yellow", "skipped": "dim", "ok": "green"}


@command("checks")
async def doctor(call: Call) -> Report:
    """Look at everything that may be wrong, and say what to do about it.

    It changes nothing, and works where the database does not. Exit code 0 if all of it works, also with warnings; else
    that of the first failure, as every command has it: 7 the database is away, 11 the schema, 12 the settings.

    Example: apictl doctor
    """
    found = await diagnosis(call)
    return Report(found.model_dump(mode="json"), tuple(lines(found)), Format.JSON, exit_code(found))


async def diagnosis(call: Call) -> "Diagnosis":
    """Return what the doctor finds here, or on a server."""
    from api.doctor.schemas import Diagnosis

    if call.server is not None:
        return await call.server.get("/v1/doctor", Diagnosis)
    from api.core.actor import Actor
    from api.core.runtime import Runtime
    from api.doctor.service import DoctorService
    from cli.operator import operator_name

    actor = Actor.operator(operator_name())
    # The doctor looks at Valkey on its own: what is wrong with it keeps nobody from looking at the rest.
    settings = call.settings.model_copy(update={"throttle_url": None})
    return await DoctorService(call.settings, actor, lambda: Runtime.open(settings, pool_size=1)).doctor()


def lines(found: "Diagnosis") -> "Iterator[tuple[str, str]]":
    """Yield what a person reads: a line for each check, and below it what to do."""
    width = max(len(check.name) for check in found.checks)
    for check in found.checks:
        yield LOOKS[check.status], f"{check.status:<7}  {check.name:<{width}}  {check.detail}"
        if check.hint and check.status != "ok":
            yield "", f"{'':<7}  {'':<{width}}  → {check.hint}"


def exit_code(found: "Diagnosis") -> int:
    """Return that of the first failure."""
    from api.core.errors import ApictlError, Kind
    from cli.asking import BY_CODE

    code = next((check.code for check in found.checks if check.status == "fail"), None)
    if code is None:
        return 0
    known = ApictlError.registry.get(code)
    return (known.kind if known is not None else BY_CODE.get(code, Kind.MISCONFIGURED)).exit_code
