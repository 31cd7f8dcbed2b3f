"""Files of users on a server: the methods of their service, as requests."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from api.bulk.schemas import ExportOptions, ImportOptions, ImportReport, RowResult
from api.users.schemas import UserRead
from cli.asking import ServerAnswer, content_of, none_of_ours
from cli.client.server import Server, params, read

PATH: Final = "/v1/bulk/users"
# Bytes of a file that no server finds too long.
SHORT: Final = 1 << 20
TYPES: Final = {"csv": "text/csv", "jsonl": "application/jsonl"}


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
        try:
            async with self._server.asked(
                "POST", PATH, params=params(how), content=self._sent(pieces), patient=True
            ) as answer:
                return read(answer, ImportReport, await content_of(answer))
        except ServerAnswer as error:
            if self.counts.read <= SHORT:
                raise
            # A server that refuses a long file hangs up, and what it says is lost with the connection, mostly.
            raise ServerAnswer(
                error.detail,
                cause=f"{error.cause}, after {self.counts.read} bytes of the file",
                hint="a server takes no more than its APICTL_MAX_IMPORT_BYTES (16 MiB, unless set): send it in parts",
            ) from None

    async def _sent(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self.counts.read += len(piece)
            self.counts.rows += piece.count(b"\n")
            yield piece

    async def export_users(self, how: ExportOptions) -> AsyncIterator[bytes]:
        return received(self._server, PATH, how, TYPES[how.format])


async def received(server: Server, path: str, how: BaseModel, media_type: str) -> AsyncIterator[bytes]:
    """Yield a file that a server exports.

    Raises:
        ServerAnswer: It is none of that type.
    """
    async with server.asked("GET", path, params=params(how), patient=True) as answer:
        kind = answer.headers.get("content-type", "").partition(";")[0]
        # Whoever does not say where it ends could end it in the middle.
        ends = answer.headers.get("transfer-encoding") == "chunked" or "content-length" in answer.headers
        if kind != media_type or not ends:
            raise none_of_ours(answer, "it answered with what is no such file")
        async for piece in answer.aiter_bytes():
            yield piece
