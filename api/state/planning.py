"""What it takes to get to a state, in the order in which it can be done."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from api.api_keys.models import ApiKey
from api.api_keys.service import ends_soon
from api.core.actor import ALL_SCOPES
from api.core.errors import ApictlError, FieldError, InvalidInput, Kind
from api.roles.models import Role
from api.state.existing import Existing, named
from api.state.models import Ownership
from api.state.resources import Name, Resource, account_of, current, differing
from api.state.schemas import Action, Change, FieldChange, Plan
from api.users.models import User

# What is deleted, in this order: keys before their owners, and roles when nobody has them any more.
DELETED: Final = ("api-key", "user", "service-account", "role")

# What to do about what is not this state's, by the code of the error.
TAKE_OVER: Final = "take it over: --take-over, over HTTP take_over=true"
HINTS: Final = {
    "renamed": "name it so in the state, or rename it back",
    "another-one": f"look whose it is; if it is to be so, {TAKE_OVER}",
    "says-otherwise": f"let one of the two name it, or {TAKE_OVER}",
    "not-made-here": f"give yours another name, or {TAKE_OVER}",
}


class OwnedByAnother(ApictlError):
    """A name means something else than when the state set it, or it is somebody else's to say what that is like."""

    kind = Kind.CONFLICT
    code = "owned-by-another"
    title = "It is another one, or another owner's"


@dataclass(frozen=True, slots=True)
class Step:
    """A change, what is desired (None: that it is gone), and what is there (None: nothing)."""

    change: Change
    resource: Resource | None
    found: Role | User | ApiKey | None

    @property
    def name(self) -> Name:
        """What it is about."""
        return (self.change.kind, self.change.name)


@dataclass(frozen=True, slots=True)
class Planned:
    """Everything to do: the steps, and whose rows change hands or end without one."""

    owner: str
    steps: list[Step]
    taken_over: list[tuple[Name, Ownership]]
    released: list[tuple[Name, Ownership]]
    unchanged: int

    def plan(self) -> Plan:
        """Return it as both doors show it."""
        plan = Plan(
            owner=self.owner,
            changes=[step.change for step in self.steps],
            unchanged=self.unchanged,
            taken_over=[f"{kind} {name} of {row.owner}" for (kind, name), row in self.taken_over],
            released=[f"{kind} {name}" for (kind, name), _ in self.released],
            digest="",
        )
        # Before anybody has told who made it drift, which is no part of it.
        return plan.model_copy(update={"digest": hashlib.sha256(plan.model_dump_json().encode()).hexdigest()})


def make_plan(owner: str, wanted: list[Resource], existing: Existing, *, take_over: bool) -> Planned:
    """Compare what is desired with what there is.

    Raises:
        OwnedByAnother: A name means something else by now, or another owner's state says otherwise.
        InvalidInput: It cannot be done: a role that there is not, or a scope that a key's owner does not hold.
    """
    wanted_by_name = {resource.name: resource for resource in wanted}
    steps = [
        step
        for resource in wanted
        if not is_asleep(resource, wanted_by_name, existing)
        and (step := step_of(resource, existing, take_over=take_over)) is not None
    ]
    require_own(wanted_by_name, steps, existing, take_over=take_over)
    gone = [(name, row) for name, row in existing.own.items() if name not in wanted_by_name]
    deletions = [
        Step(change("delete", name, []), None, existing.there[name])
        for name, row in gone
        if row.made_at is not None
        and name not in existing.others
        and getattr(existing.there[name], "id", None) not in existing.kept
    ]
    deletions.sort(key=lambda step: (DELETED.index(step.change.kind), step.change.name))
    require_possible(wanted_by_name, steps, deletions, existing)
    deleted = {step.name for step in deletions}
    released = [(name, row) for name, row in gone if name not in deleted]
    return Planned(
        owner,
        [*steps, *roles_taken([name for name, _ in released], deleted, existing), *deletions],
        [(name, row) for name in wanted_by_name for row in existing.of_others(name)] if take_over else [],
        released,
        len(wanted) - len(steps),
    )


def is_asleep(resource: Resource, wanted: Mapping[Name, Resource], existing: Existing) -> bool:
    """Tell whether it is a key of somebody who is and stays deactivated: nothing is made or renewed for them."""
    if not resource.account:
        return False
    name = account_of(resource.name)
    found = existing.there.get(name)
    return isinstance(found, User) and not found.is_active and wanted[name].fields.get("is_active") is not True


def step_of(resource: Resource, existing: Existing, *, take_over: bool) -> Step | None:
    """Return what it takes to have a resource as it is desired; None if it is so."""
    name = resource.name
    found, own = existing.there.get(name), existing.own.get(name)
    if found is None:
        new = [FieldChange(field=field, before=None, after=value) for field, value in resource.fields.items()]
        return Step(change("create", name, new), resource, None)
    fields = differing(resource.fields, current(found), own)
    if fields:
        return Step(change("replace" if isinstance(found, ApiKey) else "update", name, fields), resource, found)
    rows = [*([] if own is None else [own]), *(existing.others.get(name, ()) if take_over else ())]
    is_made = any(row.made_at is not None for row in rows)
    if not (is_made and isinstance(found, ApiKey) and found.expires_at is not None and ends_soon(found)):
        return None
    ends = FieldChange(field="expires_at", before=found.expires_at.isoformat(), after=None)
    # What was rotated, and its successor revoked, has no next one.
    return Step(change("renew" if found.successor_id is None else "replace", name, [ends]), resource, found)


def roles_taken(released: Iterable[Name], deleted: Collection[Name], existing: Existing) -> Iterator[Step]:
    """Yield what takes the roles that end from accounts that are let go; not those that another state gives them."""
    for name in released:
        found = existing.there[name]
        if not isinstance(found, User):
            continue
        given = {role for row in existing.others.get(name, ()) for role in row.applied.get("roles", ())}
        left = [role for role in found.roles if role in given or ("role", role) not in deleted]
        if left != found.roles:
            fields = [FieldChange(field="roles", before=found.roles, after=left)]
            yield Step(change("update", name, fields), Resource(name, "", {"roles": left}), found)


def require_own(wanted: Mapping[Name, Resource], steps: Iterable[Step], existing: Existing, *, take_over: bool) -> None:
    """Go on only if each name means what it meant, and nobody else's state says otherwise, unless that is taken over.

    Raises:
        OwnedByAnother: It is not so; each error has its place in the state.
    """
    errors = [*renamed(wanted, existing)]
    if not take_over:
        errors += another_one(wanted, existing)
        errors += (error for step in steps for error in not_own(step, existing))
    if errors:
        raise OwnedByAnother.of_fields(errors, hint=HINTS[errors[0]["code"]])


def renamed(wanted: Mapping[Name, Resource], existing: Existing) -> Iterator[FieldError]:
    """Yield what the state has set by a name that it has no more, unless the state has its account by the new one."""
    moved = {named(row): name for name, row in existing.own.items() if account_of(name) not in wanted}
    for name, resource in wanted.items():
        if moved.get(name, name) != name:
            yield FieldError(resource.where, f"{name[0]} {name[1]} is {moved[name][1]} by now", "renamed")


def another_one(wanted: Mapping[Name, Resource], existing: Existing) -> Iterator[FieldError]:
    """Yield the roles and accounts that have the names of those that the state has set, be they this state's too."""
    for name, resource in wanted.items():
        said = existing.said.get(name)
        if said is not None and said is not existing.own.get(name) and name in existing.there and name[0] != "api-key":
            what = (
                f"{name[0]} {name[1]} is another one than this state has set: it was made again, or has taken the name"
            )
            yield FieldError(resource.where, what, "another-one")


def not_own(step: Step, existing: Existing) -> Iterator[FieldError]:
    """Yield what a step would change of what another state says, or of a key that this state has not made."""
    if step.resource is None or step.found is None:
        return
    kind, name = step.name
    own = existing.own.get(step.name)
    for row in existing.others.get(step.name, ()):
        if any(row.applied.get(field.field, field.after) != field.after for field in step.change.fields):
            what = f"{kind} {name} is in the state of {row.owner}, which says otherwise"
            yield FieldError(step.resource.where, what, "says-otherwise")
            return
    if step.change.action == "replace" and (own is None or own.made_at is None):
        what = f"there is an API key {name} that this state has not made, and it would end"
        yield FieldError(step.resource.where, what, "not-made-here")


def require_possible(
    resources: Mapping[Name, Resource], steps: Iterable[Step], deletions: Iterable[Step], existing: Existing
) -> None:
    """Go on only if every role that is named will be there, and every new key's owner may have it.

    Raises:
        InvalidInput: It is not so; each error has its place in the state.
    """
    scopes = existing.scopes | {
        name: resource.fields["scopes"] for (kind, name), resource in resources.items() if kind == "role"
    }
    gone = {step.change.name for step in deletions if step.change.kind == "role"}
    errors = [
        FieldError(f"{resource.where}.roles", f"there is no role {role}; name it under roles", "role-not-found")
        for resource in resources.values()
        for role in resource.fields.get("roles", ())
        if role not in scopes or role in gone
    ]
    for resource in resources.values():
        found = existing.there.get(resource.name)
        if isinstance(found, User) and "roles" not in resource.fields:
            what = "which ends, and the state does not say their roles"
            ending = [role for role in found.roles if role in gone]
            errors += (
                FieldError(resource.where, f"{found.handle} has {role}, {what}", "role-in-use") for role in ending
            )
    for step in steps:
        if step.resource is not None and step.change.kind == "api-key" and step.change.action != "renew":
            errors += refused_key(step.resource, resources, existing, scopes)
    if errors:
        raise InvalidInput.of_fields(errors)


def refused_key(
    key: Resource, resources: Mapping[Name, Resource], existing: Existing, scopes: dict[str, list[str]]
) -> Iterable[FieldError]:
    """Yield why an account cannot have a key, as it will be then."""
    name = account_of(key.name)
    found = existing.there.get(name)
    fields = (current(found) if found is not None else {}) | resources[name].fields
    held = {scope for role in fields.get("roles", ()) for scope in scopes.get(role, ())}
    beyond = sorted(set(key.fields["scopes"]) - (ALL_SCOPES if fields.get("is_superuser") else held))
    if beyond:
        what = f"{key.account} does not hold {', '.join(beyond)}: give it a role that does"
        yield FieldError(f"{key.where}.scopes", what, "scope-exceeds-owner")


def change(action: Action, name: Name, fields: list[FieldChange]) -> Change:
    """Return a change of one thing."""
    return Change(action=action, kind=name[0], name=name[1], fields=fields)
