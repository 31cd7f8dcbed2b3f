"""The rules about service accounts that are not those about every user; the same behind both doors."""

from dataclasses import replace
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession

from api.core.actor import Actor, Scope
from api.core.errors import ApictlError, Kind
from api.roles.service import RoleService
from api.service_accounts.schemas import ServiceAccountCreate
from api.users import crud
from api.users.records import Outcome, UserRecords


class ServiceAccountExists(ApictlError):
    """Another service account has the name."""

    kind = Kind.CONFLICT
    code = "service-account-exists"
    title = "There is a service account of this name already"


class ServiceAccountService:
    """Makes and lists the accounts of machines; one instance serves one call. The rest of them is what users have."""

    def __init__(self, session: AsyncSession, actor: Actor) -> None:
        self._session = session
        self._actor = actor
        self._users = UserRecords(session, actor)

    async def create_service_account(
        self, new: ServiceAccountCreate, *, if_exists: Literal["fail", "skip"] = "fail"
    ) -> Outcome:
        """Create an account without a password or an address, with these roles.

        Args:
            new: The fields.
            if_exists: With `skip`, leave an account that has the name as it is.

        Raises:
            ServiceAccountExists: The name is taken, and `if_exists` is `fail`.
            RoleNotFound: One of the roles does not exist.
            MissingScope: The actor lacks a scope of a role.
        """
        self._actor.require(Scope.USERS_WRITE)
        user = await crud.insert_service_account(self._session, name=new.name, full_name=new.full_name)
        if user is None:
            if if_exists == "fail":
                raise ServiceAccountExists(
                    f"There is a service account {new.name} already",
                    hint="if_exists (--if-exists) skip takes it as it is",
                )
            return Outcome(await self._users.lock(new.name), changed=False)
        await self._users.audit("user.create", user, name=user.name)
        outcome = Outcome(user, changed=True, created=True)
        roles = RoleService(self._session, self._actor)
        for role in sorted(set(new.roles)):
            outcome = replace(outcome, user=(await roles.grant_role(new.name, role)).user)
        return outcome
