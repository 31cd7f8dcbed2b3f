"""States on a server: the methods of their service, as requests."""

from collections.abc import Callable

from api.state.schemas import Applied, ApplyOptions, ExportStateOptions, Plan, PlanOptions, State
from cli.client.server import Server


class StateClient:
    """What there should be; each method is that of its service."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def plan(self, state: State, how: PlanOptions) -> Plan:
        return (await self._server.change("POST", "/v1/plan", Plan, body=state, query=how)).body

    async def apply(
        self, state: State, how: ApplyOptions, *, told: Callable[[int, int], None] = lambda *_: None
    ) -> Applied:
        # It answers when all is done.
        del told
        return (await self._server.change("POST", "/v1/apply", Applied, body=state, query=how, patient=True)).body

    async def export_state(self, how: ExportStateOptions) -> State:
        return await self._server.get("/v1/state", State, how)
