"""What there is of what a state names, and whose it is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """What there is, by the name that it has now.

    Attributes:
        there: The roles, accounts, and of each key's name the live one that is meant.
        said: What the owner's last state said, by the names that it had then.
        own: What it said of what there is, by whatever name.
        lost: What it said of what is gone.
        others: What other owners' states say of what there is, by whatever name.
        others_lost: What they say of what the owner's state named too, and is gone, by its name there.
        kept: The accounts with keys that other owners' states name; only of those that the state names no more.
        ids: Of each key that is meant, or was, the ids that it had since it was made: each rotation gives it another.
        live: Of each key that is meant, what is live of it: for a while, the one before a rotation too.
        scopes: Of each role that is mentioned, or that an account has.
    """

    there: dict[Name, Role | User | ApiKey]
    said: dict[Name, Ownership] = field(default_factory=dict)
    own: dict[Name, Ownership] = field(default_factory=dict)
    lost: dict[Name, Ownership] = field(default_factory=dict)
    others: dict[Name, list[Ownership]] = field(default_factory=dict)
    others_lost: dict[Name, list[Ownership]] = field(default_factory=dict)
    kept: set[UUID] = field(default_factory=set)
    ids: dict[Name, set[UUID]] = field(default_factory=dict)
    live: dict[Name, list[ApiKey]] = field(default_factory=dict)
    scopes: dict[str, list[str]] = field(default_factory=dict)

    def is_about(self, name: Name, row: Ownership) -> bool:
        """Tell whether a row is about what has this name now, and not about another one that had it."""
        found = self.there.get(name)
        return found is not None and (row.target_id == found.id or row.target_id in self.ids.get(name, ()))

    def of_others(self, name: Name) -> list[Ownership]:
        """Return what other owners' states say of what has this name, or had it when it was this owner's."""
        return [*self.others.get(name, ()), *self.others_lost.get(name, ())]


def named(row: Ownership) -> Name:
    """Return what a row is about, by the name that it had."""
    return (row.kind, row.name)  # type: ignore[return-value]  # as it was written


async def read(session: AsyncSession, owner: str, wanted: Iterable[Resource], *, lock: bool) -> Existing:
    """Return what there is; with `lock`, nobody else changes it until the transaction ends.

    Locked as everybody locks: who is a superuser, then roles by name, then accounts, so that nobody waits in a circle.
    """
    resources = [*wanted]
    stated = {resource.name for resource in resources}
    rows = await crud.owned_by(session, owner)
    user_ids = {user_id for _, user_id in rows if user_id is not None}
    mentioned = {role for resource in resources for role in resource.fields.get("roles", ())}
    mentioned |= {name for kind, name in stated | {named(row) for row, _ in rows} if kind == "role"}
    if lock:
        await users.lock_superusers(session)
        # What is taken from them is locked too, and before them.
        mentioned |= {role for user in await accounts_of(session, stated, user_ids, lock=False) for role in user.roles}
    defined = await roles.named(session, mentioned, lock=lock)
    accounts = await accounts_of(session, stated, user_ids, lock=lock)
    found = Existing({("role", role.name): role for role in defined}, {named(row): row for row, _ in rows})
    for user in accounts:
        found.there["service-account" if user.email is None else "user", user.handle] = user
    found.scopes.update({role.name: role.scopes for role in defined})
    held = {role for user in accounts for role in user.roles} - found.scopes.keys()
    if held:
        found.scopes.update(await roles.scopes_by_role(session, held))
    handles = {user.id: user.handle for user in accounts}
    by_name = [(name_now(row, handles, user_id), row) for row, user_id in rows]
    await read_keys(session, found, stated, by_name, handles)
    found.own.update({name: row for name, row in by_name if found.is_about(name, row)})
    found.lost.update({named(row): row for name, row in by_name if found.own.get(name) is not row})
    await read_others(session, owner, found, stated)
    return found


async def own_keys(session: AsyncSession, owner: str, accounts: Iterable[User]) -> list[ApiKey]:
    """Return the live API keys that an owner's state means, of these accounts."""
    handles = {user.id: user.handle for user in accounts}
    found = Existing({})
    rows = [(name_now(row, handles, user_id), row) for row, user_id in await crud.owned_by(session, owner)]
    await read_keys(session, found, set(), rows, handles)
    return [key for key in found.there.values() if isinstance(key, ApiKey)]


def name_now(row: Ownership, handles: Mapping[UUID, str], user_id: UUID | None) -> Name:
    """Return what a row is about, by the name that it has if its account has one of these."""
    kind, name = named(row)
    handle = None if user_id is None else handles.get(user_id)
    if handle is None:
        return (kind, name)
    return (kind, f"{handle}/{name.partition('/')[2]}" if kind == "api-key" else handle)


async def accounts_of(session: AsyncSession, names: set[Name], ids: set[UUID], *, lock: bool) -> Sequence[User]:
    """Return the accounts of these names and of keys with these names, and who has these ids."""
    handles = {name.partition("/")[0] for kind, name in names if kind != "role"}
    emails = {name for name in handles if "@" in name}
    return await users.by_handles(session, emails, handles - emails, ids, lock=lock)


async def read_keys(
    session: AsyncSession,
    found: Existing,
    stated: set[Name],
    rows: Iterable[tuple[Name, Ownership]],
    handles: Mapping[UUID, str],
) -> None:
    """Find which live key each name means: the owner's, after however many rotations, or else the newest."""
    own: dict[Name, list[UUID | None]] = {name: [] for name in stated if name[0] == "api-key"}
    for name, row in rows:
        if name[0] == "api-key":
            own.setdefault(name, []).append(row.target_id)
    accounts = {name.partition("/")[0] for _, name in own}
    ids = [user_id for user_id, handle in handles.items() if handle in accounts]
    if not ids:
        return
    by_name: dict[Name, list[OwnedKey]] = {}
    for one in await api_keys.of_users(session, ids, names={name.partition("/")[2] for _, name in own}):
        by_name.setdefault(("api-key", f"{handles[one.user.id]}/{one.key.name}"), []).append(one)
    for name in own.keys() & by_name.keys():
        keys = [one.key for one in by_name[name]]
        live = {one.key.id for one in by_name[name] if one.is_live}
        mine = [key for key_id in own[name] for key in successors(keys, key_id)]
        meant = next((key for key in reversed(mine) if key.id in live), None)
        meant = meant or next((key for key in reversed(keys) if key.id in live and key.successor_id is None), None)
        if meant is None:
            # What became of it, and what it was before.
            found.ids[name] = {key.id for key in keys for one in mine if key is one or one in successors(keys, key.id)}
            continue
        found.there[name] = meant
        found.ids[name] = {key.id for key in keys if meant in successors(keys, key.id)}
        found.live[name] = [key for key in keys if key.id in found.ids[name] & live]


def successors(keys: Sequence[ApiKey], key_id: UUID | None) -> Iterator[ApiKey]:
    """Yield a key and what it was replaced by, one rotation after the other."""
    by_id = {key.id: key for key in keys}
    while key_id in by_id:
        key = by_id.pop(key_id)
        yield key
        key_id = key.successor_id


async def read_others(session: AsyncSession, owner: str, found: Existing, stated: set[Name]) -> None:
    """Find what other owners' states say of what there is, and of what is gone."""
    names = {row.target_id: name for name, row in found.lost.items() if row.target_id is not None}
    names |= {one.id: name for name, one in found.there.items()}
    names |= {key_id: name for name, ids in found.ids.items() for key_id in ids}
    for row in await crud.owned_by_others(session, owner, names):
        # It was found by it.
        name = names[row.target_id]  # type: ignore[index]
        (found.others if found.is_about(name, row) else found.others_lost).setdefault(name, []).append(row)
    left = [found.there[name] for name in found.own if name not in stated]
    gone = [user.id for user in left if isinstance(user, User)]
    if gone:
        found.kept.update(await crud.with_keys_of_others(session, owner, gone))
