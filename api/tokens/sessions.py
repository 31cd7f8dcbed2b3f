"""How a session begins, whichever grant it was: somebody has shown all that was asked for."""

from sqlalchemy.ext.asyncio import AsyncSession

from api.audit import crud as audit
from api.config import Settings
from api.core.actor import ALL_SCOPES, Actor, Scope
from api.tokens import crud
from api.tokens.authentication import Client
from api.tokens.keys import Keys
from api.tokens.refusals import KNOWN_SCOPES, InvalidScope
from api.tokens.schemas import TokenIssued
from api.tokens.service import issue
from api.users.models import User
from api.users.records import powers_of


async def begin_session(
    session: AsyncSession,
    user: User,
    *,
    scope: str | None,
    client: Client,
    keys: Keys,
    settings: Settings,
    label: str = "",
    **detail: str,
) -> TokenIssued:
    """Begin a session of somebody who has shown all that was asked for; `detail` goes into its audit entry.

    Raises:
        InvalidScope: The user holds none of the scopes.
    """
    powers = await powers_of(session, user)
    asked = requested_scopes(scope, powers.scopes)
    row = await crud.add(
        session,
        user_id=user.id,
        ttl=settings.session_ttl,
        scopes=None if asked is None else sorted(asked),
        label=label,
        user_agent=client.user_agent,
        address=client.address,
    )
    actor = Actor(name=user.handle, scopes=powers.scopes, door="http", user_id=user.id, request_id=client.request_id)
    entry = {"user": user.handle, **detail}
    await audit.add(session, actor, action="session.login", target="session", target_id=row.id, detail=entry)
    return issue(row, powers.scopes if asked is None else asked, keys, settings)


def requested_scopes(scope: str | None, held: frozenset[Scope]) -> frozenset[Scope] | None:
    """Return those of the scopes asked for that can be granted; None if none was asked for.

    Raises:
        InvalidScope: None of them can be granted.
    """
    if not scope:
        return None
    wanted = held.intersection(scope.split())
    if not wanted:
        if ALL_SCOPES.issuperset(scope.split()):
            raise InvalidScope("Whoever asks holds none of these scopes", hint="apictl explain says what decides")
        raise InvalidScope(hint=KNOWN_SCOPES)
    return wanted
