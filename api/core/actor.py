"""Who is asking, and what they may do. The door builds an Actor; the service decides with it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Self
from uuid import UUID

from api.core.errors import MissingScope, NotAuthenticated


class Scope(StrEnum):
    """The closed list of permissions, `feature:verb`."""

    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    USERS_DELETE = "users:delete"
    TOKENS_READ = "tokens:read"
    TOKENS_WRITE = "tokens:write"
    TOKENS_INTROSPECT = "tokens:introspect"
    API_KEYS_READ = "api-keys:read"
    API_KEYS_WRITE = "api-keys:write"
    SIGNING_KEYS_READ = "signing-keys:read"
    SIGNING_KEYS_WRITE = "signing-keys:write"
    ROLES_READ = "roles:read"
    ROLES_WRITE = "roles:write"
    MIGRATIONS_READ = "migrations:read"
    MIGRATIONS_RUN = "migrations:run"
    AUDIT_READ = "audit:read"
    DOCTOR_READ = "doctor:read"


SCOPE_TEXTS = {
    Scope.USERS_READ: "See every user.",
    Scope.USERS_WRITE: "Create and change users (and so see them), set passwords, grant roles, (de)activate.",
    Scope.USERS_DELETE: "Delete users.",
    Scope.TOKENS_READ: "See everybody's sessions.",
    Scope.TOKENS_WRITE: "Issue tokens for others, and end their sessions.",
    Scope.TOKENS_INTROSPECT: "Ask what a token that somebody has shown is good for.",
    Scope.API_KEYS_READ: "See everybody's API keys.",
    Scope.API_KEYS_WRITE: "Create, rotate and revoke API keys for others.",
    Scope.SIGNING_KEYS_READ: "See the signing keys (never what signs).",
    Scope.SIGNING_KEYS_WRITE: "Rotate and retire signing keys.",
    Scope.ROLES_READ: "See every role.",
    Scope.ROLES_WRITE: "Create, change and delete roles.",
    Scope.MIGRATIONS_READ: "See where the database's schema stands.",
    Scope.MIGRATIONS_RUN: "Migrate the database.",
    Scope.AUDIT_READ: "Read, export and verify the audit log.",
    Scope.DOCTOR_READ: "See what is wrong with a server, and how it is set up.",
}
# Scopes that end so change nothing.
READING = (":read", ":introspect")
ALL_SCOPES = frozenset(Scope)
NO_SCOPES: frozenset[Scope] = frozenset()

Door = Literal["http", "cli"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The caller of a service.

    Attributes:
        name: How the audit log calls them: an e-mail address, or `operator:alice@host`.
        scopes: What they may do now: the token's scopes that their owner holds as well.
        user_id: The user behind the call; None for an operator with access to the database.
        session_id: The session behind the access token, if there is one.
        api_key_id: The API key that was sent, or that an access token was got for.
        showed_key: Whether it was the key itself that was sent.
        narrowed: Whether the token was made to do less than its owner may.
        door: The door they came through.
        request_id: The id under which the logs hold this call.
    """

    name: str
    scopes: frozenset[Scope]
    door: Door
    user_id: UUID | None = None
    session_id: UUID | None = None
    api_key_id: UUID | None = None
    showed_key: bool = False
    narrowed: bool = False
    request_id: str = ""

    @classmethod
    def operator(cls, name: str) -> Self:
        """Return the actor of a terminal with access to the database: it could write the rows anyway."""
        return cls(name=f"operator:{name}", scopes=ALL_SCOPES, door="cli")

    @classmethod
    def nobody(cls, *, door: Door = "http", request_id: str = "") -> Self:
        """Return the actor of a caller without credentials, who may do nothing."""
        return cls(name="nobody", scopes=NO_SCOPES, door=door, request_id=request_id)

    @property
    def is_nobody(self) -> bool:
        """Whether the caller showed no credentials."""
        return self.user_id is None and not self.scopes

    def may(self, *scopes: Scope) -> bool:
        """Tell whether the actor holds every one of these scopes."""
        return self.scopes.issuperset(scopes)

    def require(self, *scopes: Scope) -> None:
        """Go on only if the actor holds every one of these scopes.

        Raises:
            NotAuthenticated: Nobody is asking.
            MissingScope: The actor lacks one; `detail` names it.
        """
        if self.is_nobody:
            raise NotAuthenticated
        missing = [scope for scope in scopes if scope not in self.scopes]
        if missing:
            # Of a narrowed one, that is the reason more often than its owner's roles.
            hint = "this token or key was made for less, or its owner may not: make another" if self.narrowed else None
            refusal = MissingScope(f"This needs the scope {' and '.join(missing)}", hint=hint)
            refusal.is_about_reading = all(scope.endswith(READING) for scope in missing)
            raise refusal

    def require_power_over(self, held: frozenset[Scope]) -> None:
        """Go on only if the actor holds whatever the account in question holds, or would be given.

        Whoever may set a password, issue a token or grant a power could otherwise make themselves more than they are;
        also a narrowed token of the account's own owner.

        Raises:
            MissingScope: The account can do something that the actor cannot.
        """
        if not self.scopes >= held:
            raise MissingScope(
                "This takes every scope of the account that it is about",
                hint=f"you lack {', '.join(sorted(held - self.scopes))}",
            )

    def require_identity(self) -> UUID:
        """Return the id of the user behind the call.

        Raises:
            NotAuthenticated: No user stands behind it.
        """
        if self.user_id is None:
            raise NotAuthenticated("This is about the user who asks, and no user is signed in")
        return self.user_id

    def require_own_session(self) -> UUID:
        """Return the id of the user behind the call, who came with everything that they may do.

        A token that was narrowed to one purpose is not its owner: it changes neither their name nor their sessions.

        Raises:
            NotAuthenticated: No user stands behind it.
            MissingScope: The token was narrowed.
        """
        user_id = self.require_identity()
        if self.narrowed:
            raise MissingScope(
                "A token that was narrowed to some scopes cannot change its owner's own account",
                hint="log in without naming scopes; an API key is narrowed always",
            )
        return user_id


def scopes_named(names: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes of these names; one that an earlier version knew counts for nothing."""
    return frozenset(Scope(name) for name in names if name in ALL_SCOPES)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed, and the rule that says so."""

    allowed: bool
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Powers:
    """What a user holds now, and what of it the credential in hand may use.

    Attributes:
        is_superuser: Whether the user holds everything.
        roles: The scopes of each of their roles.
        granted: The scopes that the credential was made for; None: all that its owner holds, as that changes.
        is_active: Whether the user may do anything at all.
    """

    is_superuser: bool
    roles: Mapping[str, Collection[str]] = field(default_factory=dict)
    granted: Collection[str] | None = None
    is_active: bool = True

    def decide(self, scope: Scope) -> Decision:
        """Return whether the scope is held: the one place that decides it, for a request and for an explanation."""
        if not self.is_active:
            return Decision(allowed=False, rule="the user is deactivated")
        if self.granted is not None and scope not in self.granted:
            return Decision(allowed=False, rule="the token was made for other scopes")
        if self.is_superuser:
            return Decision(allowed=True, rule="a superuser holds every scope")
        holding = sorted(name for name, scopes in self.roles.items() if scope in scopes)
        if holding:
            return Decision(allowed=True, rule=f"the role {holding[0]} holds it")
        return Decision(allowed=False, rule="the user is no superuser, and none of their roles holds it")

    @property
    def scopes(self) -> frozenset[Scope]:
        """Everything that is allowed."""
        return frozenset(scope for scope in Scope if self.decide(scope).allowed)
