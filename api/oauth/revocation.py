"""The end of a token by whoever holds it (RFC 7009): holding it is all that this takes."""

import hmac
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys import crud as api_keys
from api.api_keys.secret import ApiKeySecret
from api.audit import crud as audit
from api.core.actor import NO_SCOPES, Actor
from api.core.runtime import Runtime
from api.tokens import crud
from api.tokens.authentication import Authentication, Client
from api.tokens.keys import Keys
from api.tokens.refusals import InvalidToken, OAuthError
from api.tokens.secret import RefreshToken
from api.users.models import User


class UnsupportedTokenType(OAuthError):
    """The token is good, and nothing ends it alone."""

    code = "unsupported-token-type"
    title = "A token of this type cannot be revoked"
    error = "unsupported_token_type"


async def revoke(token: str, *, runtime: Runtime, keys: Keys, client: Client) -> None:
    """End the session that an access or refresh token hangs on, or an API key; what is none of ours is no failure.

    Raises:
        UnsupportedTokenType: It was got for an API key, and ends with it or by itself.
    """
    refresh = RefreshToken.decode(token, keys.refresh)
    secret = ApiKeySecret.parse(token)
    session_id: UUID | None = None
    if refresh is not None:
        session_id = refresh.session_id
    elif secret is None:
        try:
            claims = await Authentication(runtime, keys).verified(token)
        except InvalidToken:
            return
        if claims.session_id is None:
            raise UnsupportedTokenType(
                "This access token was got for an API key", hint="revoke the key; the token ends with it"
            )
        session_id = claims.session_id
    async with runtime.transaction() as session:
        if secret is not None:
            await revoke_api_key(session, secret, client)
        elif session_id is not None:
            await revoke_session(session, session_id, client)


async def revoke_session(session: AsyncSession, session_id: UUID, client: Client) -> None:
    """End a session, unless it has ended."""
    found = await crud.owned(session, session_id)
    if found is not None and await crud.revoke(session, session_id, because="revoked") is not None:
        await write_down(session, found.user, client, action="session.revoke", target="session", target_id=session_id)


async def revoke_api_key(session: AsyncSession, secret: ApiKeySecret, client: Client) -> None:
    """End an API key, if this is its secret."""
    found = await api_keys.owned(session, secret.id)
    if found is None or not hmac.compare_digest(found.key.digest, secret.digest):
        return
    if await api_keys.revoke(session, secret.id) is not None:
        await write_down(session, found.user, client, action="api_key.revoke", target="api_key", target_id=secret.id)


async def write_down(
    session: AsyncSession, owner: User, client: Client, *, action: str, target: str, target_id: UUID
) -> None:
    """Write down that a token was ended by whoever holds it, who counts as its owner."""
    actor = Actor(name=owner.handle, scopes=NO_SCOPES, door="http", user_id=owner.id, request_id=client.request_id)
    detail = {"user": owner.handle, "address": client.address}
    await audit.add(session, actor, action=action, target=target, target_id=target_id, detail=detail)
