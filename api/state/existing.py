"""What there is of what a state names, and whose it is."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys import crud as api_keys
from api.api_keys.crud import OwnedKey
from api.api_keys.models import ApiKey
from api.roles import crud as roles
from api.roles.models import Role
from api.state import crud
from api.state.models import Ownership
from api.state.resources import Name, Resource
from api.users import crud as users
from api.users.models import User


@dataclass(frozen=True, slots=True)
class Existing:
    """What there is, by name.

    Attributes:
        there: The roles, accounts, and of each key's name the live one that is meant.
        own: What the owner has by its last state.
        others: What other owners have of the same.
        ids: Of each key that is meant, the ids that it had since it was made: each rotation gives it another.
        live: Of each key that is meant, what is live of it: for a while, the one before a rotation too.
        renamed: Who has another address since the owner's state named them.
        scopes: Of each role that is mentioned, or that an account has.
    """

    there: dict[Name, Role | User | ApiKey]
    own: dict[Name, Ownership]
    others: dict[Name, list[Ownership]]
    ids: dict[Name, set[UUID]] = field(default_factory=dict)
    live: dict[Name, list[ApiKey]] = field(default_factory=dict)
    renamed: dict[Name, User] = field(default_factory=dict)
    scopes: dict[str, list[str]] = field(default_factory=dict)

    def found(self, name: Name) -> Role | User | ApiKey | None:
        """Return what has this name, or had it when the owner's state named it."""
        return self.there.get(name) or self.renamed.get(name)

    def is_about(self, name: Name, row: Ownership) -> bool:
        """Tell whether a row is about what has this name now, and not about another one that had it."""
        found = self.found(name)
        if isinstance(found, Role):
            # It has no id; a row whose owner did not make it is as good as it can be.
            return row.made_at in {None, found.created_at}
        return found is not None and (row.target_id == found.id or row.target_id in self.ids.get(name, ()))

    def others_about(self, name: Name) -> list[Ownership]:
        """Return what other owners' states say of what has this name now."""
        return [row for row in self.others.get(name, ()) if self.is_about(name, row)]

    def has_made(self, name: Name, row: Ownership) -> bool:
        """Tell whether a row's owner made what has this name now."""
        return row.made_at is not None and self.is_about(name, row)


def named(row: Ownership) -> Name:
    """Return what a row is about."""
    return (row.kind, row.name)  # type: ignore[return-value]  # as it was written


async def read(session: AsyncSession, owner: str, wanted: Iterable[Resource], *, lock: bool) -> Existing:
    """Return what there is; with `lock`, nobody else changes it until the transaction ends.

    Locked as everybody locks: who is a superuser, then roles by name, then accounts, so that nobody waits in a circle.
    """
    resources = [*wanted]
    own = {named(row): row for row in await crud.owned_by(session, owner)}
    names = {resource.name for resource in resources} | own.keys()
    others: dict[Name, list[Ownership]] = {}
    for row in await crud.owned_by_others(session, owner, {kind for kind, _ in names}, {name for _, name in names}):
        others.setdefault(named(row), []).append(row)
    if lock:
        await users.lock_superusers(session)
    mentioned = {role for resource in resources for role in resource.fields.get("roles", ())}
    defined = await roles.named(session, mentioned | {name for kind, name in names if kind == "role"}, lock=lock)
    accounts = await accounts_of(session, names, own.values(), lock=lock)
    found = Existing({("role", role.name): role for role in defined}, own, others)
    for user in accounts:
        found.there["service-account" if user.email is None else "user", user.handle] = user
    by_id = {user.id: user for user in accounts}
    stated = {resource.name for resource in resources}
    for name, row in [*own.items()]:
        holder = None if row.target_id is None else by_id.get(row.target_id)
        if name[0] != "user" or holder is None or holder.email in {name[1], None}:
            continue
        if name not in stated and ("user", holder.handle) in stated:
            follow(own, name[1], holder.handle)
        elif name not in found.there:
            found.renamed[name] = holder
    found.scopes.update({role.name: role.scopes for role in defined})
    held = {role for user in accounts for role in user.roles} - found.scopes.keys()
    if held:
        found.scopes.update(await roles.scopes_by_role(session, held))
    await read_keys(session, found, {name for kind, name in stated | own.keys() if kind == "api-key"}, accounts)
    return found


def follow(own: dict[Name, Ownership], old: str, new: str) -> None:
    """Have what an owner has by an address by the one that took its place, in the state too."""
    for name in [*own]:
        account, slash, key = name[1].partition("/")
        if account == old and name[0] in {"user", "api-key"}:
            own.setdefault((name[0], f"{new}{slash}{key}"), own.pop(name))


async def accounts_of(
    session: AsyncSession, names: set[Name], own: Iterable[Ownership], *, lock: bool
) -> Sequence[User]:
    """Return the accounts of these names and of keys with these names, and whoever the owner's state has named."""
    handles = {name for kind, name in names if kind in {"user", "service-account"}}
    handles |= {name.partition("/")[0] for kind, name in names if kind == "api-key"}
    ids = {row.target_id for row in own if row.kind == "user" and row.target_id is not None}
    emails = {name for name in handles if "@" in name}
    return await users.by_handles(session, emails, handles - emails, ids, lock=lock)


async def read_keys(session: AsyncSession, found: Existing, names: set[str], accounts: Sequence[User]) -> None:
    """Find which live key each name means: the owner's, after however many rotations, or else the newest."""
    # By the name that the state has for them.
    handles = {user.id: user.handle for user in accounts} | {user.id: name for (_, name), user in found.renamed.items()}
    owners = {name.partition("/")[0] for name in names}
    ids = [user.id for user in accounts if handles[user.id] in owners]
    if not ids:
        return
    by_name: dict[str, list[OwnedKey]] = {}
    for one in await api_keys.of_users(session, ids, names={name.partition("/")[2] for name in names}):
        by_name.setdefault(f"{handles[one.user.id]}/{one.key.name}", []).append(one)
    for text in names & by_name.keys():
        keys = [one.key for one in by_name[text]]
        live = {one.key.id for one in by_name[text] if one.is_live}
        row = found.own.get(("api-key", text))
        mine = [*successors(keys, row.target_id)] if row is not None and row.target_id is not None else []
        meant = next((key for key in reversed(mine) if key.id in live), None)
        meant = meant or next((key for key in reversed(keys) if key.id in live and key.successor_id is None), None)
        if meant is not None:
            chain = {key.id for key in keys if meant in successors(keys, key.id)}
            found.there["api-key", text] = meant
            found.ids["api-key", text] = chain
            found.live["api-key", text] = [key for key in keys if key.id in chain & live]


def successors(keys: Sequence[ApiKey], key_id: UUID | None) -> Iterator[ApiKey]:
    """Yield a key and what it was replaced by, one rotation after the other."""
    by_id = {key.id: key for key in keys}
    while key_id in by_id:
        key = by_id.pop(key_id)
        yield key
        key_id = key.successor_id
