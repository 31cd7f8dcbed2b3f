"""One user's row: found, locked, changed, and every change written down. The steps that the rules are made of."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys import crud as api_keys
from api.audit import crud as audit
from api.core.actor import Actor, Powers, Scope
from api.core.errors import ApictlError, Kind, MissingScope, StaleVersion
from api.core.passwords import Passwords
from api.roles import crud as roles
from api.throttle.service import Throttle
from api.tokens import crud as tokens
from api.tokens.refusals import InvalidToken
from api.users import crud
from api.users.models import User
from api.users.schemas import UserRead, canonical_email

NOTHING: Final[Mapping[str, Any]] = {}


class UserNotFound(ApictlError):
    """No such user, or none that the caller may know of."""

    kind = Kind.NOT_FOUND
    code = "user-not-found"
    title = "There is no such user"
    default_hint = "apictl list-users shows who there is, list-service-accounts the machines"


class EmailTaken(ApictlError):
    """Another user has the address, in some spelling of it."""

    kind = Kind.CONFLICT
    code = "email-taken"
    title = "The e-mail address belongs to a user already"

    @classmethod
    def of(cls, email: str | None, *, hint: str | None = None) -> Self:
        """Return that an address is in use."""
        return cls(f"The e-mail address {email} belongs to a user already", hint=hint)


class WrongPassword(ApictlError):
    """The current password, asked for before a change, does not match."""

    kind = Kind.NOT_PERMITTED
    code = "wrong-password"
    title = "The current password is not right"
    default_hint = "it is the one that logs in now; who forgot it has a link sent: /reset-password"


class LastSuperuser(ApictlError):
    """Somebody must be left who may do everything."""

    kind = Kind.CONFLICT
    code = "last-superuser"
    title = "This is the last active superuser"


class UserInactive(ApictlError):
    """A deactivated user cannot be given credentials."""

    kind = Kind.CONFLICT
    code = "user-inactive"
    title = "The user is deactivated"


class ScopeExceedsOwner(ApictlError):
    """A token may do no more than its owner."""

    kind = Kind.INVALID
    code = "scope-exceeds-owner"
    title = "A token may do no more than its owner"
    default_hint = "give its owner a role that holds it first: apictl grant-role"


class NotForServiceAccounts(ApictlError):
    """A service account has neither an address nor a password, and only as much power as its roles."""

    kind = Kind.CONFLICT
    code = "not-for-service-accounts"
    title = "A service account has no address, no password, and is no superuser"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A user after a command, and whether the command changed anything."""

    user: User | UserRead
    changed: bool
    created: bool = False


class UserRecords:
    """The rows of users, for one call of one actor."""

    def __init__(self, session: AsyncSession, actor: Actor) -> None:
        self._session = session
        self._actor = actor

    async def find(self, ref: str, *, lock: bool = False) -> User | None:
        """Return the user with this id, e-mail address, or name of a service account; or None."""
        if "@" in ref:
            try:
                email = canonical_email(ref)
            except ValueError:
                return None
            return await crud.by_email(self._session, email, lock=lock)
        try:
            user_id = UUID(ref)
        except ValueError:
            return await crud.by_name(self._session, ref, lock=lock)
        return await crud.by_id(self._session, user_id, lock=lock)

    async def lock(self, ref: str, *, if_version: int | None = None, guard_superusers: bool = False) -> User:
        """Return the user, whom nobody else can change until this transaction ends.

        Raises:
            UserNotFound: There is none.
            StaleVersion: The user is no longer at `if_version`.
        """
        if guard_superusers:
            # Always before the row, so that two demotions cannot wait for each other.
            await crud.lock_superusers(self._session)
        user = await self.find(ref, lock=True)
        if user is None:
            raise UserNotFound(f"There is no user {ref}")
        StaleVersion.check("The user", now=user.version, expected=if_version)
        return user

    async def verified(self, current_password: str, passwords: Passwords, throttle: Throttle) -> User:
        """Return the user who asks, who knows their password; no transaction is open then.

        Raises:
            WrongPassword: The current password does not match.
            TooManyAttempts: The account, or whoever asks, has to wait; that is no attempt.
            MissingScope: The actor came with a narrowed token.
        """
        user = await self.get(str(self._actor.require_own_session()))
        # No connection waits for a hash.
        await self._session.close()
        # As at a login, and with it: whoever found an open screen has no more guesses than whoever has none.
        async with throttle.attempt(user.handle) as attempt:
            attempt.is_right = (await passwords.verify(current_password, user.password_hash)).ok
        if not attempt.is_right:
            raise WrongPassword
        return user

    async def lock_verified(self, verified: User) -> User:
        """Return the user who has shown their password, locked; their session and the password are what they were.

        Raises:
            WrongPassword: Somebody changed it meanwhile: what was verified no longer counts.
            InvalidToken: The session has ended meanwhile.
        """
        user = await self.lock(str(verified.id))
        # Locked: whoever ends the user's sessions ends this one first, or comes after.
        await self.require_still()
        if user.password_hash != verified.password_hash:
            raise WrongPassword
        return user

    async def get(self, ref: str) -> User:
        """Return a user that the actor may see.

        Raises:
            UserNotFound: There is none.
        """
        if self._actor.is_nobody:
            self._actor.require(Scope.USERS_READ)
        user = await self.find(ref)
        if user is None or not (self._actor.may(Scope.USERS_READ) or user.id == self._actor.user_id):
            raise UserNotFound(f"There is no user {ref}")
        return user

    async def whose(self, ref: str | None, scope: Scope) -> UUID | None:
        """Return whose credentials the actor may list: this user's; without one, everybody's (None), or their own.

        Raises:
            UserNotFound: There is no such user, or none that the actor may see.
            MissingScope: The actor may list only their own, and asks for others', or with a narrowed token.
        """
        if self._actor.is_nobody:
            self._actor.require(scope)
        user_id = self._actor.user_id
        if ref is not None:
            user_id = (await self.get(ref)).id
        elif self._actor.may(scope):
            user_id = None
        if user_id != self._actor.user_id or self._actor.narrowed:
            self._actor.require(scope)
        return user_id

    async def require_still(self) -> None:
        """Go on only if the actor may still do what they might when the call began: a hash can have taken seconds.

        Raises:
            InvalidToken: Their session or key has ended, or they were deactivated.
            MissingScope: They were demoted.
        """
        row: Any
        if self._actor.api_key_id is not None:
            row = await api_keys.identity(self._session, self._actor.api_key_id)
        elif self._actor.session_id is not None and self._actor.user_id is not None:
            row = await tokens.identity(self._session, self._actor.session_id, self._actor.user_id)
        else:
            return
        if row is None:
            raise InvalidToken
        powers = Powers(is_superuser=row.is_superuser, roles=row.scopes_by_role, granted=row.granted)
        if not powers.scopes >= self._actor.scopes:
            raise MissingScope("Your powers were taken meanwhile")

    def require_another(self, user: User, *, hint: str) -> None:
        """Refuse what an administrator does to others where the user themself has to show their password.

        Raises:
            MissingScope: The actor is the user.
        """
        if user.id == self._actor.user_id:
            raise MissingScope("Whoever has your session, or one of your keys, could do that", hint=hint)

    async def require_power_over(self, user: User) -> None:
        """Refuse to let a lesser actor take over an account, active or not.

        Raises:
            MissingScope: The account can do something that the actor cannot.
        """
        powers = await powers_of(self._session, user)
        self._actor.require_power_over(replace(powers, is_active=True).scopes)

    async def keep_a_superuser(self, user: User) -> None:
        """Refuse what would take the last active superuser away; the caller has locked the superusers.

        Raises:
            LastSuperuser: This is the one.
        """
        if user.is_superuser and user.is_active and not await crud.other_superuser_exists(self._session, user.id):
            raise LastSuperuser(
                f"{user.handle} is the last active superuser",
                hint="promote another user first: apictl promote-user",
            )

    async def change(self, action: str, user: User, noted: Mapping[str, Any] = NOTHING, /, **values: Any) -> Outcome:
        """Set these columns and write it down, with what else is to be noted; with none, change nothing."""
        if not values:
            return Outcome(user, changed=False)
        changed = await crud.change(self._session, user.id, **values)
        if changed is None:
            raise UserNotFound(f"There is no user {user.id}")
        secret = {"password_hash"}
        shown = {name: values[name] for name in values if name not in secret}
        await self.audit(action, changed, **noted, **shown)
        return Outcome(changed, changed=True)

    async def audit(self, action: str, user: User, /, **detail: Any) -> None:
        """Write down what the actor did to a user."""
        await audit.add(self._session, self._actor, action=action, target="user", target_id=user.id, detail=detail)


async def powers_of(session: AsyncSession, user: User, *, granted: Collection[str] | None = None) -> Powers:
    """Return what a user holds, and what of it a credential may use that was made for some scopes."""
    held = await roles.scopes_by_role(session, user.roles) if user.roles else {}
    return Powers(is_superuser=user.is_superuser, roles=held, granted=granted, is_active=user.is_active)


def require_person(user: User) -> str:
    """Return the address of a person.

    Raises:
        NotForServiceAccounts: It is none.
    """
    if user.email is None:
        raise NotForServiceAccounts(
            f"{user.handle} is a service account", hint="grant it roles: apictl grant-role; and keys: create-api-key"
        )
    return user.email


def require_active(user: User) -> None:
    """Let a user pass who may have credentials.

    Raises:
        UserInactive: They are deactivated.
    """
    if not user.is_active:
        raise UserInactive(
            f"{user.handle} is deactivated", hint=f"activate them first: apictl activate-user {user.handle}"
        )


def require_held(wanted: Collection[str], powers: Powers, *, owner: str) -> None:
    """Let scopes pass that the owner of a credential holds.

    Raises:
        ScopeExceedsOwner: The owner does not hold one.
    """
    beyond = sorted(set(wanted) - powers.scopes)
    if beyond:
        raise ScopeExceedsOwner(f"{owner} does not hold {', '.join(beyond)}")
