"""States on a server: the methods of their service, as requests."""

from collections.abc import Callable

from api.core.errors import BodyTooLarge
from api.state.schemas import MAX_BYTES, Applied, ApplyOptions, ExportStateOptions, Plan, PlanOptions, State
from cli.asking import content_of
from cli.client.server import LARGEST_PAGE, Server, params, read


class StateClient:
    """What there should be; each method is that of its service."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def plan(self, state: State, how: PlanOptions) -> Plan:
        headers = {"Content-Type": "application/json"}
        async with self._server.asked(
            "POST", "/v1/plan", params=params(how), headers=headers, content=body_of(state), patient=True
        ) as answer:
            return read(answer, Plan, await content_of(answer, LARGEST_PAGE))

    async def apply(
        self, state: State, how: ApplyOptions, *, told: Callable[[int, int], None] = lambda *_: None
    ) -> Applied:
        # It answers when all is done.
        del told
        body_of(state)
        return (await self._server.change("POST", "/v1/apply", Applied, body=state, query=how, patient=True)).body

    async def export_state(self, how: ExportStateOptions) -> State:
        return await self._server.get("/v1/state", State, how)


def body_of(state: State) -> bytes:
    """Return a state as a request's body.

    Raises:
        BodyTooLarge: It is; a server would hang up while it is sent.
    """
    body = state.model_dump_json(exclude_unset=True).encode()
    if len(body) > MAX_BYTES:
        raise BodyTooLarge(
            f"A server takes no state of {len(body):,} bytes",
            hint=f"{MAX_BYTES:,} are the most: apply it where the database is, or as states of several owners",
        )
    return body
