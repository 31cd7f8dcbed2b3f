"""The rules about users, the same behind both doors."""

from dataclasses import replace
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from api.audit.noting import entry
from api.core.actor import ALL_SCOPES, Actor, Scope
from api.core.direct import Direct
from api.core.errors import NotAuthenticated
from api.core.ids import uuid7
from api.core.passwords import Passwords
from api.mail import crud as mails
from api.throttle.service import Throttle
from api.tokens import crud as tokens
from api.users import crud
from api.users.accounts import account
from api.users.models import User
from api.users.records import EmailTaken, Outcome, UserNotFound, UserRecords, powers_of, require_person
from api.users.schemas import IfExists, UserCreate, UserRead, UserUpdate


class UserService:
    """Everything that can be done with users; one instance serves one call."""

    def __init__(
        self,
        session: AsyncSession,
        actor: Actor,
        passwords: Passwords,
        direct: Direct | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        """Serve one call; what is one statement may be sent directly, by who is in no transaction of their own.

        Whoever may have a password of their own to show comes with what holds guesses back.
        """
        self._session = session
        self._direct = direct
        self._actor = actor
        self._passwords = passwords
        self._throttle = throttle
        self._records = UserRecords(session, actor)

    async def create_user(
        self, new: UserCreate, *, is_superuser: bool = False, if_exists: IfExists = "fail", hashed: str | None = None
    ) -> Outcome:
        """Create a user.

        Args:
            new: The fields; a user without a password cannot log in until one is set.
            is_superuser: Whether the user may do everything.
            if_exists: With `skip`, leave a user who has the address as they are; with `update`, set their name if one
                is given, and never their password or powers.
            hashed: The hash of their password, where that was made before; then `new` has none.

        Raises:
            EmailTaken: The address is in use, and `if_exists` is `fail`.
            WeakPassword: The policy refuses the password.
            MissingScope: The actor may not create users, or not superusers.
            InvalidToken: The actor's session or key ended while the password was hashed.
        """
        self._actor.require(Scope.USERS_WRITE)
        if is_superuser:
            self._actor.require_power_over(ALL_SCOPES)
        if new.password is not None:
            # Before the first statement, so that no connection waits for the hash.
            hashed = await self._passwords.hash(new.password, personal=[new.email, new.full_name])
            await self._records.require_still()
        created = await self._insert(new, hashed, is_superuser=is_superuser)
        if created is not None:
            return Outcome(created, changed=True, created=True)
        if if_exists == "fail":
            raise EmailTaken.of(
                new.email,
                hint="if_exists (--if-exists) skip takes the user as they are; update sets their name",
            )
        existing = await self._records.lock(new.email)
        named = "full_name" in new.model_fields_set and existing.full_name != new.full_name
        if if_exists == "skip" or not named:
            return Outcome(existing, changed=False)
        await self._records.require_power_over(existing)
        return await self._records.change("user.update", existing, full_name=new.full_name)

    async def _insert(self, new: UserCreate, hashed: str | None, *, is_superuser: bool) -> UserRead | None:
        detail = {"email": new.email, "is_superuser": is_superuser}
        values = {
            "id": uuid7(),
            "email": new.email,
            "full_name": new.full_name,
            "password_hash": hashed,
            "is_superuser": is_superuser,
            "entry_actor": self._actor.name,
            "entry_actor_id": self._actor.user_id,
            **entry(
                door=self._actor.door,
                request_id=self._actor.request_id,
                detail=detail,
                api_key_id=self._actor.api_key_id,
            ),
        }
        row: Any
        if self._direct is not None:
            row = await self._direct.fetch_one(crud.CREATE, **values)
        else:
            row = (await self._session.execute(crud.CREATE.executable, values)).mappings().one_or_none()
        return None if row is None else account(row)

    async def has_superuser(self) -> bool:
        """Tell whether somebody may do everything: then `create_first_superuser` has nothing to do."""
        self._actor.require(Scope.USERS_READ)
        return await crud.other_superuser_exists(self._session, None)

    async def create_first_superuser(self, new: UserCreate) -> User | UserRead | None:
        """Create a superuser if there is none; of many at once, one does, and the others get None.

        Raises:
            EmailTaken: A user who is no superuser has the address.
        """
        self._actor.require(Scope.USERS_WRITE)
        self._actor.require_power_over(ALL_SCOPES)
        await crud.lock_superusers(self._session)
        if await crud.other_superuser_exists(self._session, None):
            return None
        made = await self.create_user(new, is_superuser=True, if_exists="skip")
        if not made.created:
            raise EmailTaken(
                f"{new.email} belongs to a user who is no active superuser, and nobody else is one",
                hint=f"make them one: apictl promote-user {new.email}; if they are deactivated, apictl activate-user",
            )
        return made.user

    async def act_as(self, ref: str) -> Actor:
        """Return an operator narrowed to what a user may do: the way to reproduce "it says forbidden".

        Raises:
            UserNotFound: There is none.
            NotAuthenticated: The user is deactivated.
        """
        self._actor.require(*ALL_SCOPES)
        user = await self.get_user(ref)
        if not user.is_active:
            raise NotAuthenticated(f"{user.handle} is deactivated and may do nothing")
        scopes = (await powers_of(self._session, user)).scopes
        return replace(self._actor, name=f"{self._actor.name} as {user.handle}", scopes=scopes, user_id=user.id)

    async def get_user(self, ref: str) -> User:
        """Return a user by id or e-mail address, or a service account by id or name.

        Raises:
            UserNotFound: There is none that the actor may see.
        """
        return await self._records.get(ref)

    async def update_user(self, ref: str, changes: UserUpdate, *, if_version: int | None = None) -> Outcome:
        """Change the e-mail address or the name.

        Raises:
            UserNotFound: There is none.
            EmailTaken: Another user has the new address.
            StaleVersion: The user is no longer at `if_version`.
            MissingScope: The actor may not; or it is their own address, and they came with a narrowed token.
        """
        self._actor.require(Scope.USERS_WRITE)
        user = await self._records.lock(ref, if_version=if_version)
        await self._records.require_power_over(user)
        if changes.email is not None:
            require_person(user)
        values: dict[str, Any] = {
            name: value
            for name, value in changes.model_dump(exclude_unset=True, exclude_none=True).items()
            if value != getattr(user, name)
        }
        if "email" in values:
            if user.id == self._actor.user_id:
                # It is what one logs in with: no key of one's own changes it.
                self._actor.require_own_session()
            # What was verified is another address.
            values["email_verified_at"] = None
        try:
            # A savepoint, so that whoever does more in this transaction can go on.
            async with self._session.begin_nested():
                return await self._records.change("user.update", user, **values)
        except IntegrityError:
            # The unique index decides, also between two at once; it is the only constraint that an update can break.
            raise EmailTaken.of(changes.email) from None

    async def update_profile(self, full_name: str, *, if_version: int | None = None) -> Outcome:
        """Change the actor's own name.

        Raises:
            StaleVersion: The user is no longer at `if_version`.
        """
        user = await self._records.lock(str(self._actor.require_own_session()), if_version=if_version)
        values = {} if user.full_name == full_name else {"full_name": full_name}
        return await self._records.change("user.update", user, **values)

    async def set_password(self, ref: str, password: str, *, if_version: int | None = None) -> Outcome:
        """Set a user's password, which ends all their sessions.

        Raises:
            UserNotFound: There is none.
            WeakPassword: The policy refuses it.
        """
        self._actor.require(Scope.USERS_WRITE)
        found = await self._records.find(ref)
        if found is None:
            raise UserNotFound(f"There is no user {ref}")
        self._records.require_another(found, hint="change your own with the current one: PUT /v1/users/me/password")
        await self._records.require_power_over(found)
        hashed = await self._hash(password, found)
        await self._records.require_still()
        user = await self._records.lock(str(found.id), if_version=if_version)
        await self._records.require_power_over(user)
        await tokens.revoke_all(self._session, user.id, because="password changed")
        return await self._records.change("user.set_password", user, password_hash=hashed)

    async def change_password(self, current: str, new: str) -> Outcome:
        """Change the actor's own password; other sessions end, the one that asks goes on.

        Raises:
            WrongPassword: The current password does not match.
            TooManyAttempts: The account, or whoever asks, has to wait; that is no attempt.
            WeakPassword: The policy refuses the new one.
        """
        self._actor.require_own_session()
        assert self._throttle is not None  # noqa: S101 - nobody has a session of their own without it
        found = await self._records.verified(current, self._passwords, self._throttle)
        hashed = await self._hash(new, found, field="new_password")
        user = await self._records.lock_verified(found)
        await tokens.revoke_all(self._session, user.id, because="password changed", keep=self._actor.session_id)
        return await self._records.change("user.set_password", user, password_hash=hashed)

    async def activate_user(self, ref: str, *, if_version: int | None = None) -> Outcome:
        """Let a user log in again; sessions that ended stay ended."""
        self._actor.require(Scope.USERS_WRITE)
        user = await self._records.lock(ref, if_version=if_version)
        await self._records.require_power_over(user)
        return await self._records.change("user.activate", user, **({} if user.is_active else {"is_active": True}))

    async def deactivate_user(self, ref: str, *, if_version: int | None = None) -> Outcome:
        """Keep a user from logging in, and end their sessions at once.

        Raises:
            LastSuperuser: Nobody would be left who may do everything.
        """
        self._actor.require(Scope.USERS_WRITE)
        user = await self._records.lock(ref, if_version=if_version, guard_superusers=True)
        await self._records.require_power_over(user)
        if not user.is_active:
            return Outcome(user, changed=False)
        await self._records.keep_a_superuser(user)
        await tokens.revoke_all(self._session, user.id, because="user deactivated")
        return await self._records.change("user.deactivate", user, is_active=False)

    async def promote_user(self, ref: str, *, if_version: int | None = None) -> Outcome:
        """Make a user a superuser, who may do everything; they log in again to do so."""
        self._actor.require(Scope.USERS_WRITE)
        self._actor.require_power_over(ALL_SCOPES)
        user = await self._records.lock(ref, if_version=if_version)
        require_person(user)
        if user.is_superuser:
            return Outcome(user, changed=False)
        # Whoever holds one of their sessions by now is not to become a superuser with them.
        await tokens.revoke_all(self._session, user.id, because="user promoted")
        return await self._records.change("user.promote", user, is_superuser=True)

    async def demote_user(self, ref: str, *, if_version: int | None = None) -> Outcome:
        """Take a superuser's powers, in their live sessions too.

        Raises:
            LastSuperuser: Nobody would be left who may do everything.
        """
        self._actor.require(Scope.USERS_WRITE)
        self._actor.require_power_over(ALL_SCOPES)
        user = await self._records.lock(ref, if_version=if_version, guard_superusers=True)
        if not user.is_superuser:
            return Outcome(user, changed=False)
        await self._records.keep_a_superuser(user)
        return await self._records.change("user.demote", user, is_superuser=False)

    async def delete_user(self, ref: str, *, if_version: int | None = None) -> User:
        """Delete a user with their sessions; the audit log keeps what they did. Returns the user as it was.

        Raises:
            LastSuperuser: Nobody would be left who may do everything.
        """
        self._actor.require(Scope.USERS_DELETE)
        user = await self._records.lock(ref, if_version=if_version, guard_superusers=True)
        await self._records.require_power_over(user)
        await self._records.keep_a_superuser(user)
        if user.email is not None:
            # Who is to have no account is invited to none. Before the row is gone: whoever makes the account anew at
            # this moment holds the mail, and waits for the row.
            await mails.uninvite(self._session, user.email)
        await crud.remove(self._session, user.id)
        await self._records.audit("user.delete", user, user=user.handle)
        return user

    async def _hash(self, password: str, user: User, *, field: str = "password") -> str:
        """Hash a new password of a user; until then, the transaction has read only."""
        # Gives the connection back: nobody else should wait for it while this waits for its turn to hash.
        await self._session.close()
        return await self._passwords.hash(password, personal=[require_person(user), user.full_name], field=field)
