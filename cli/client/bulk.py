"""Files of users on a server: the methods of their service, as requests."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from api.bulk.schemas import ExportOptions, ImportOptions, ImportReport, RowResult
from api.users.schemas import UserRead
from cli.asking import content_of, none_of_ours
from cli.client.server import Server, params, read

PATH = "/v1/bulk/users"
TYPES = {"csv": "text/csv", "jsonl": "application/jsonl"}


@dataclass(slots=True)
class Counts:
    """How much of a file was sent so far: lines, and bytes."""

    rows: int = 0
    read: int = 0


class BulkClient:
    """Many users at once; each method is that of their service."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.counts = Counts()

    async def import_users(
        self,
        pieces: AsyncIterator[bytes],
        how: ImportOptions,
        *,
        told: Callable[[RowResult], None] | None = None,
    ) -> ImportReport:
        # A report has no more than the first of them.
        assert told is None  # noqa: S101 - the command refuses it
        # A file cannot be sent twice: what is wrong with the token, or a login that has run out, comes before it.
        await self._server.get("/v1/users/me", UserRead)
        async with self._server.asked(
            "POST", PATH, params=params(how), content=self._sent(pieces), patient=True
        ) as told_us:
            return read(told_us, ImportReport, await content_of(told_us))

    async def _sent(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self.counts.read += len(piece)
            self.counts.rows += piece.count(b"\n")
            yield piece

    async def export_users(self, how: ExportOptions) -> AsyncIterator[bytes]:
        return self._received(how)

    async def _received(self, how: ExportOptions) -> AsyncIterator[bytes]:
        async with self._server.asked("GET", PATH, params=params(how), patient=True) as answer:
            kind = answer.headers.get("content-type", "").partition(";")[0]
            # Whoever does not say where it ends could end it in the middle.
            ends = answer.headers.get("transfer-encoding") == "chunked" or "content-length" in answer.headers
            if kind != TYPES[how.format] or not ends:
                raise none_of_ours(answer, "it answered with what is no such file")
            async for piece in answer.aiter_bytes():
                yield piece
