"""The rules about sessions and the tokens that hang on them. Logging in and refreshing are in `grants`."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys import crud as api_keys
from api.audit import crud as audit
from api.config import Settings
from api.core.actor import ALL_SCOPES, Actor, Scope
from api.core.errors import ApictlError, Kind
from api.core.pagination import Cursor, cut
from api.tokens import crud
from api.tokens.crud import Owned
from api.tokens.keys import Keys
from api.tokens.models import Session
from api.tokens.refusals import InvalidToken
from api.tokens.schemas import TokenCreate, TokenIssued, TokenQuery, TokenRead, TokensRevoke, TokensRevoked
from api.tokens.secret import RefreshToken
from api.users.records import UserRecords, powers_of, require_active, require_held


class SessionNotFound(ApictlError):
    """No such session, or none that the caller may know of."""

    kind = Kind.NOT_FOUND
    code = "session-not-found"
    title = "There is no such session"
    default_hint = "apictl list-tokens shows them"


class TokenService:
    """Issues, lists and ends sessions; one instance serves one call."""

    def __init__(self, session: AsyncSession, actor: Actor, settings: Settings) -> None:
        self._session = session
        self._actor = actor
        self._settings = settings
        self._users = UserRecords(session, actor)

    async def create_token(self, new: TokenCreate, keys: Keys, *, dry_run: bool = False) -> TokenIssued:
        """Issue tokens for a user, without their password.

        Args:
            new: Whose, and what they may do.
            keys: What they are signed with.
            dry_run: All of it is undone afterwards, so that there are no tokens to be shown.

        Raises:
            UserNotFound: There is no such user.
            UserInactive: They may not log in.
            ScopeExceedsOwner: They do not hold one of the scopes.
            InvalidToken: The actor's own session or key ended meanwhile.
            MissingScope: The actor may not issue tokens, or not for a superuser.
        """
        self._actor.require(Scope.TOKENS_WRITE)
        # Locked: a deactivation or a new password at the same moment ends this session too, or comes first.
        user = await self._users.lock(new.user)
        # It may be the actor's own session that ended meanwhile.
        await self._users.require_still()
        # Whoever holds an account's token is that account.
        await self._users.require_power_over(user)
        require_active(user)
        powers = await powers_of(self._session, user, granted=new.scopes)
        if new.scopes is not None:
            require_held(new.scopes, powers, owner=user.handle)
        scopes = new.scopes
        if scopes is None and (self._actor.narrowed or self._actor.scopes != ALL_SCOPES):
            # What the owner may do later, whoever issues this may not; and nothing narrowed makes what is not.
            scopes = sorted(powers.scopes)
        row = await crud.add(
            self._session,
            user_id=user.id,
            ttl=new.expires_in or self._settings.session_ttl,
            no_later=await self._ends(),
            label=new.label,
            scopes=scopes,
        )
        await self._audit("session.create", row, user=user.handle, scopes=scopes)
        issued = issue(row, powers.scopes, keys, self._settings)
        if dry_run:
            # Whoever verifies it by our public keys would take it, although its session is undone.
            return issued.model_copy(update={"access_token": "dry run", "refresh_token": "dry run"})
        return issued

    async def list_tokens(self, query: TokenQuery) -> tuple[list[TokenRead], str | None]:
        """Return a page of sessions, the newest first; without `tokens:read`, only the actor's own.

        Raises:
            UserNotFound: There is no such user, or none that the actor may see.
            BadRequest: The cursor is not of this list.
        """
        user_id = await self._users.whose(query.user, Scope.TOKENS_READ)
        after = Cursor.decode(query.cursor, sort="-created_at")
        rows = await crud.page(self._session, user_id=user_id, live_only=query.live, limit=query.limit, after=after)
        rows, following = cut(
            rows, query.limit, lambda row: Cursor("-created_at", row.session.created_at, row.session.id)
        )
        return [read(row) for row in rows], following

    async def revoke_token(self, session_id: UUID) -> tuple[TokenRead, bool]:
        """End a session and every token of it, at once. Returns it, and whether it was live until now.

        Raises:
            SessionNotFound: There is none that the actor may see.
        """
        if self._actor.is_nobody:
            self._actor.require(Scope.TOKENS_WRITE)
        found = await crud.owned(self._session, session_id)
        # One's own: all of them, or to a narrowed token only the session that it hangs on.
        own = found is not None and found.user.id == self._actor.user_id
        own = own and (not self._actor.narrowed or session_id == self._actor.session_id)
        if found is None or not (own or self._actor.may(Scope.TOKENS_WRITE)):
            raise SessionNotFound(f"There is no session {session_id}")
        if not own:
            await self._users.require_power_over(found.user)
        ended = await crud.revoke(self._session, session_id, because="revoked")
        if ended is None:
            return read(found), False
        await self._audit("session.revoke", found.session, user=found.user.handle)
        return read(replace(found, is_live=False)), True

    async def revoke_tokens(self, which: TokensRevoke) -> TokensRevoked:
        """End every session of a user at once, but the one to keep: the actor's own, or with `tokens:write` anybody's.

        API keys are no sessions: they go on.

        Raises:
            UserNotFound: There is no such user.
            SessionNotFound: The session to keep is none of theirs.
            MissingScope: The actor may not, or came with a narrowed token.
        """
        own = self._actor.require_own_session() if which.user is None else None
        found = await self._users.find(which.user or str(own))
        if found is None or found.id != self._actor.user_id or self._actor.narrowed:
            self._actor.require(Scope.TOKENS_WRITE)
        # Locked: a session that begins at the same moment comes after, or is ended too.
        user = await self._users.lock(which.user or str(own))
        if user.id != self._actor.user_id:
            await self._users.require_power_over(user)
        if which.keep is not None:
            kept = await crud.owned(self._session, which.keep)
            if kept is None or kept.user.id != user.id:
                raise SessionNotFound(f"{user.handle} has no session {which.keep}")
        count = await crud.revoke_all(self._session, user.id, because="revoked", keep=which.keep)
        if count:
            await audit.add(
                self._session, self._actor, action="session.revoke_all", target="user", target_id=user.id,
                detail={"user": user.handle, "kept": None if which.keep is None else str(which.keep), "revoked": count},
            )  # fmt: skip
        return TokensRevoked(user_id=user.id, user=user.handle, kept=which.keep, revoked=count)

    async def _ends(self) -> datetime | None:
        """Return when the actor's API key ends, or narrowed session: the session that it makes does not outlive it."""
        if self._actor.narrowed and self._actor.session_id is not None:
            own = await crud.owned(self._session, self._actor.session_id)
            return None if own is None else own.session.expires_at
        if self._actor.api_key_id is None:
            return None
        key = await api_keys.identity(self._session, self._actor.api_key_id)
        if key is None:
            raise InvalidToken
        ends: datetime | None = key.expires_at
        return ends

    async def _audit(self, action: str, row: Session, **detail: object) -> None:
        await audit.add(self._session, self._actor, action=action, target="session", target_id=row.id, detail=detail)


class Family(NamedTuple):
    """A session as the family of its refresh tokens: what tokens are made from."""

    id: UUID
    user_id: UUID
    rotation: int
    expires_at: datetime
    scopes: list[str] | None


def issue(
    row: Session | Family,
    scopes: frozenset[Scope],
    keys: Keys,
    settings: Settings,
    *,
    narrowed: frozenset[Scope] | None = None,
) -> TokenIssued:
    """Return the pair of tokens for a session as it stands, and what they may do now."""
    remaining = int((row.expires_at - datetime.now(UTC)).total_seconds())
    ttl = max(1, min(settings.access_token_ttl, remaining))
    if narrowed is None and row.scopes is not None:
        # RFC 9068, section 2.2.3: whoever verifies it elsewhere must see that it may not do all that its owner may.
        narrowed = scopes
    return TokenIssued(
        access_token=keys.sign(user_id=row.user_id, session_id=row.id, ttl=ttl, scope=narrowed),
        expires_in=ttl,
        refresh_token=RefreshToken(row.id, row.rotation).encode(keys.refresh),
        scope=" ".join(sorted(scopes)) or None,
        session_id=row.id,
    )


def read(row: Owned) -> TokenRead:
    """Return a session as both doors show it."""
    held = row.session
    return TokenRead(
        id=held.id,
        user_id=row.user.id,
        user=row.user.handle,
        label=held.label,
        scopes=held.scopes,
        user_agent=held.user_agent,
        address=held.address,
        is_live=row.is_live,
        created_at=held.created_at,
        last_used_at=held.last_used_at,
        expires_at=held.expires_at,
        revoked_at=held.revoked_at,
        revoked_because=held.revoked_because,
    )
