"""The rules about introspection: what a token that a resource server was shown is good for (RFC 7662)."""

from typing import Any, Final

from api.core.actor import Actor, Scope
from api.core.runtime import Runtime
from api.oauth.schemas import Introspection
from api.tokens import crud
from api.tokens.authentication import Authentication, Client
from api.tokens.keys import CLIENT_ID, Keys
from api.tokens.refusals import InvalidToken, OAuthError
from api.tokens.secret import RefreshToken
from api.users.records import powers_of

# No network has this address: a key that is bound to some is good for nothing here, where we do not see who uses it.
NOWHERE: Final = Client(user_agent="", address="", request_id="")


class IntrospectionService:
    """Tells resource servers what a token is good for; one instance serves one call."""

    def __init__(self, runtime: Runtime, keys: Keys, actor: Actor) -> None:
        self._runtime = runtime
        self._keys = keys
        self._actor = actor

    async def introspect_token(self, token: str | None) -> Introspection:
        """Return what an access token, a refresh token or an API key is good for now.

        Raises:
            OAuthError: There is none.
        """
        self._actor.require(Scope.TOKENS_INTROSPECT)
        if not token:
            raise OAuthError("token is missing", hint="send a form with token=…")
        refresh = RefreshToken.decode(token, self._keys.refresh)
        if refresh is not None:
            async with self._runtime.transaction(readonly=True) as session:
                found = await crud.owned(session, refresh.session_id)
                if found is None or not found.is_live or found.session.rotation != refresh.rotation:
                    return Introspection(active=False)
                powers = await powers_of(session, found.user, granted=found.session.scopes)
            expires = int(found.session.expires_at.timestamp())
            return self._active(
                powers.scopes, username=found.user.handle, sub=found.user.id, exp=expires, client_id=CLIENT_ID
            )
        try:
            bearer = await Authentication(self._runtime, self._keys).bearer(token, client=NOWHERE, used=False)
        except InvalidToken:
            return Introspection(active=False)
        return self._active(
            bearer.actor.scopes,
            username=bearer.user.handle,
            sub=bearer.actor.user_id,
            exp=bearer.expires,
            # A service account is a client by itself.
            client_id=bearer.user.handle if bearer.user.kind == "service" else CLIENT_ID,
            token_type="Bearer",  # noqa: S106 - the name of a kind, no secret
        )

    def _active(self, scopes: frozenset[Scope], **claims: Any) -> Introspection:
        return Introspection(
            active=True,
            scope=" ".join(sorted(scopes)),
            iss=self._keys.issuer,
            aud=self._keys.issuer,
            **claims,
        )
