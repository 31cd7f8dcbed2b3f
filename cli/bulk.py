"""The terminal door to files of users."""

import asyncio
import os
import sys
import time
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer

from cli.call import Call
from cli.context import command
from cli.errors import on_lines, unwritten
from cli.files import replaced
from cli.output import Item, Script, check_fields

if TYPE_CHECKING:
    from api.audit.service import AuditService
    from api.bulk.schemas import ImportReport, RowResult
    from api.bulk.service import BulkService
    from cli.client.audit import AuditClient
    from cli.client.bulk import BulkClient

PIECE: Final = 8 * 1024
# Where nobody watches: seconds between two lines about how far it is.
SELDOM: Final = 5.0
OFTEN: Final = 0.2
# Refused rows that are said besides being in the result.
SAID: Final = 20


class FileFormat(StrEnum):
    """Formats of files."""

    CSV = "csv"
    JSONL = "jsonl"


class IfExists(StrEnum):
    """What becomes of a row whose address is taken."""

    SKIP = "skip"
    FAIL = "fail"


def service(call: Call) -> "BulkService | BulkClient":
    """Return the service behind these commands, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.bulk import BulkClient

        return BulkClient(call.server)
    from api.bulk.service import BulkService

    return BulkService(call.runtime, call.actor)


@command("bulk")
async def import_users(
    call: Call,
    file: Annotated[str, typer.Argument(help="The file, CSV or JSONL; - is standard input.", show_default=False)],
    *,
    file_format: Annotated[
        FileFormat | None, typer.Option("--format", help="The file's format; without, by its first character.")
    ] = None,
    if_exists: Annotated[
        IfExists, typer.Option("--if-exists", help="What becomes of a row whose address is taken; never of the user.")
    ] = IfExists.SKIP,
    atomic: Annotated[
        bool, typer.Option("--atomic", help="Import nothing if one row is refused.", show_default=False)
    ] = False,
    results: Annotated[
        Path | None, typer.Option("--results", help="Write what became of each row to this file, as JSONL.")
    ] = None,
) -> Item:
    """Create a user for each row of a file, however long it is.

    Columns: email, and full_name, is_active, is_superuser, roles (separated by spaces), email_verified_at, created_at,
    password_hash: of apictl, or of most other systems; it is made anew at the first login. A row that is refused stops
    no other, and the exit code is 9 then. After an interruption, import the same file again: who is there already is
    left as they are.

    Example: apictl import-users users.csv

    Example: apictl import-users - --format jsonl --dry-run
    """
    from api.bulk.schemas import ImportOptions, ImportReport
    from api.core.errors import BadRequest

    # Before anything is imported.
    check_fields(Item(dict.fromkeys(ImportReport.model_fields)), call.fields)
    how = ImportOptions(
        format=None if file_format is None else file_format.value,
        if_exists=if_exists.value,
        atomic=atomic,
        dry_run=call.dry_run,
    )
    if call.server is not None and results is not None:
        raise BadRequest(
            "--results works on a database only", hint="a server answers with the first hundred that it refuses"
        )
    bulk = service(call)
    with ExitStack() as stack:
        source = sys.stdin.buffer if file == "-" else stack.enter_context(opened(Path(file)))
        told = None if results is None else stack.enter_context(writer(results, source))
        watching = asyncio.create_task(watch(call, bulk, size_of(source)))
        try:
            report = await bulk.import_users(pieces(source), how, told=told)
        except BadRequest as error:
            raise BadRequest(f"{file}: {error.detail}", cause=error.cause, hint=error.hint) from None
        except asyncio.CancelledError:
            if not (how.atomic or how.dry_run):
                call.say("What is imported already stays; the same command goes on from there.")
            raise
        finally:
            watching.cancel()
            await asyncio.wait([watching])
    say_errors(call, report, file, has_results=results is not None, atomic=atomic)
    return Item(report.model_dump(mode="json"), exit_code=9 if report.failed else 0)


@command("export")
async def export_users(
    call: Call,
    *,
    file_format: Annotated[FileFormat, typer.Option("--format", help="The file's format.")] = FileFormat.CSV,
    with_hashes: Annotated[
        bool, typer.Option("--with-hashes", help="The hashes of their passwords too.", show_default=False)
    ] = False,
    to: Annotated[
        Path | None, typer.Option("--to", help="Write to this file, which nobody else may read; else to stdout.")
    ] = None,
) -> Script:
    """Export all people, as a file that import-users takes.

    Example: apictl export-users --to users.csv
    """
    from api.bulk.schemas import ExportOptions

    how = ExportOptions(format=file_format.value, with_hashes=with_hashes)
    return await exported(lambda: service(call).export_users(how), to)


def require_file(to: Path | None) -> None:
    """Go on only if nothing would take the place of a folder, or of a device.

    Raises:
        BadRequest: It would.
    """
    from api.core.errors import BadRequest

    if to is not None and to.exists() and not to.is_file():
        raise BadRequest(f"{to} is no file")


async def exported(export: Callable[[], Awaitable[AsyncIterator[bytes]]], to: Path | None) -> Script:
    """Write what is exported to a file, or to stdout.

    Raises:
        BadRequest: It is no file.
    """
    require_file(to)
    with ExitStack() as stack:
        target = sys.stdout.buffer if to is None else stack.enter_context(replaced(to))
        # On a screen nothing is there that a terminal obeys; of a letter, a piece may have half.
        letters = getincrementaldecoder("utf-8")("replace") if target.isatty() else None
        async for piece in await export():
            shown = piece if letters is None else on_lines(letters.decode(piece)).encode()
            try:
                target.write(shown)
                target.flush()
            except OSError as error:
                if to is not None:
                    raise
                return Script("", "", exit_code=unwritten(error))
    return Script("", "")


def opened(file: Path) -> IO[bytes]:
    """Return a file to be read.

    Raises:
        BadRequest: It cannot be.
    """
    from api.core.errors import BadRequest

    try:
        return file.open("rb")
    except OSError as error:
        raise BadRequest(f"{file} cannot be read", cause=error.strerror) from None


async def pieces(source: IO[bytes]) -> AsyncIterator[bytes]:
    """Yield what is read. Not in a thread: at Ctrl-C it would be waited for until a pipe has something to say."""
    descriptor = source.fileno()
    while True:
        await readable(descriptor)
        piece = os.read(descriptor, PIECE)
        if not piece:
            return
        yield piece


async def readable(descriptor: int) -> None:
    """Wait until there is something to read; a file has it always, and lets others come between."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:
        await asyncio.sleep(0)
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


def size_of(source: IO[bytes]) -> int:
    """Return how long a file is; 0 for a pipe."""
    try:
        return os.fstat(source.fileno()).st_size
    except OSError:
        return 0


@contextmanager
def writer(file: Path, source: IO[bytes]) -> "Iterator[Callable[[RowResult], None]]":
    """Yield what writes each row's result to a file, which nobody else may read.

    Raises:
        BadRequest: It cannot be written, or is what is imported.
    """
    from api.core.errors import BadRequest

    try:
        if file.exists() and os.path.samestat(file.stat(), os.fstat(source.fileno())):
            raise BadRequest(f"{file} is what is to be imported", hint="name another file for the results")
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise BadRequest(f"{file} cannot be written", cause=error.strerror) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as target:
        yield lambda result: print(result.model_dump_json(exclude_none=True), file=target)


def say_errors(call: Call, report: "ImportReport", file: str, *, has_results: bool, atomic: bool) -> None:
    """Tell the person which rows were refused, and why."""
    for error in report.errors[:SAID]:
        column = f", {error.field}" if error.field else ""
        whose = f" ({error.email})" if error.email else ""
        call.say(f"{file}, line {error.line}{column}{whose}: {error.message}")
    if report.failed > SAID:
        elsewhere = "" if has_results or call.server is not None else "; --results FILE has them all"
        call.say(f"… and {report.failed - SAID} more{elsewhere}")
    if atomic and report.failed:
        call.say("Nothing was imported, because of those.")


async def watch(call: Call, work: "BulkService | BulkClient | AuditService | AuditClient", size: int) -> None:
    """Show how far it is: a bar on a terminal that can draw one, else a line now and then."""
    began = time.monotonic()
    if call.quiet:
        return
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        while True:
            await asyncio.sleep(SELDOM)
            done = f", {work.counts.read * 100 // size} %" if size else ""
            call.say(pace(work.counts.rows, began) + done)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=size or None)
        while True:
            progress.update(task, completed=work.counts.read, description=pace(work.counts.rows, began))
            await asyncio.sleep(OFTEN)


def pace(rows: int, began: float) -> str:
    """Return how many rows there were, and how many a second since then (monotonic)."""
    return f"{rows:,} rows, {rows / max(time.monotonic() - began, 0.001):,.0f} a second"
