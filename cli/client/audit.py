"""The audit log on a server: the methods of its service, as requests."""

from collections.abc import AsyncIterator

from api.audit.schemas import AuditFilter, AuditPage, AuditQuery, AuditRead, AuditSince, AuditVerified
from cli.asking import content_of
from cli.client.bulk import Counts, received
from cli.client.server import LARGEST_PAGE, Server, read


class AuditClient:
    """Who did what to whom; each method is that of its service."""

    def __init__(self, server: Server) -> None:
        self._server = server
        # What a server does meanwhile, HTTP cannot tell.
        self.counts = Counts()

    async def list_audit(self, query: AuditQuery) -> tuple[list[AuditRead], str | None]:
        page = await self._server.get("/v1/audit", AuditPage, query)
        return page.items, page.next_cursor

    async def export_audit(self, which: AuditFilter) -> AsyncIterator[bytes]:
        return received(self._server, "/v1/audit/export", which, "application/jsonl")

    async def verify_audit(self, since: AuditSince) -> AuditVerified:
        headers = {"Content-Type": "application/json"}
        content = since.model_dump_json(exclude_unset=True)
        path = "/v1/audit/verification"
        async with self._server.asked("POST", path, headers=headers, content=content, patient=True) as answer:
            return read(answer, AuditVerified, await content_of(answer, LARGEST_PAGE))
