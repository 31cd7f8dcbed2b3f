"""The command table: a line for each command. Its module is imported only when it runs, or is completed."""

from importlib import import_module
from typing import Any, Final, NamedTuple


class Entry(NamedTuple):
    """Where a command is, on which panel of the help, and its one line there."""

    module: str
    panel: str
    summary: str


COMMANDS: Final[dict[str, Entry]] = {
    "create-user": Entry("cli.users", "Users", "Create a user."),
    "show-user": Entry("cli.users", "Users", "Show a user."),
    "list-users": Entry("cli.users", "Users", "List users."),
    "update-user": Entry("cli.users", "Users", "Change a user's e-mail address or name."),
    "set-password": Entry("cli.users", "Users", "Set a user's password; all their sessions end."),
    "activate-user": Entry("cli.users", "Users", "Let a user log in again."),
    "deactivate-user": Entry("cli.users", "Users", "Keep a user from logging in; all their sessions end at once."),
    "promote-user": Entry(
        "cli.users", "Users", "Make a user a superuser, who may do everything; all their sessions end."
    ),
    "demote-user": Entry("cli.users", "Users", "Take a superuser's powers, in live sessions too."),
    "delete-user": Entry("cli.users", "Users", "Delete a user and their sessions."),
    "invite-user": Entry("cli.account_mail", "Users", "Invite somebody by mail; the account is made when they accept."),
    "send-reset": Entry("cli.account_mail", "Users", "Send a user a link by which they choose a new password."),
    "verify-email": Entry("cli.account_mail", "Users", "Send a user a link by which they confirm their address."),
    "import-users": Entry("cli.bulk", "Users", "Create a user for each row of a file, however long it is."),
    "export-users": Entry("cli.bulk", "Users", "Export all people, as a file that import-users takes."),
    "list-factors": Entry("cli.factors", "Users", "List a user's second factors."),
    "reset-factors": Entry(
        "cli.factors",
        "Users",
        "Remove all of a user's second factors and recovery codes: their password alone logs them in again.",
    ),
    "create-service-account": Entry("cli.service_accounts", "Users", "Create a service account, for a machine."),
    "list-service-accounts": Entry("cli.service_accounts", "Users", "List service accounts."),
    "plan": Entry(
        "cli.state",
        "Provisioning",
        "Show what it takes to get to a state, and who made it drift: exit code 10 if anything.",
    ),
    "apply": Entry("cli.state", "Provisioning", "Make what there is as a state says: all of it or nothing."),
    "export-state": Entry(
        "cli.state", "Provisioning", "Print all roles, accounts and live API keys as a state, whoever made them."
    ),
    "create-role": Entry("cli.roles", "Roles", "Create a role: a named set of scopes."),
    "show-role": Entry("cli.roles", "Roles", "Show a role."),
    "list-roles": Entry("cli.roles", "Roles", "List roles, in the order of their names."),
    "update-role": Entry("cli.roles", "Roles", "Change a role's scopes or description; at once, for all who have it."),
    "delete-role": Entry("cli.roles", "Roles", "Delete a role that nobody has."),
    "grant-role": Entry("cli.roles", "Roles", "Give a user a role; it takes effect at once."),
    "revoke-role": Entry("cli.roles", "Roles", "Take a role from a user; it takes effect at once."),
    "explain": Entry("cli.roles", "Roles", "Tell whether a user may do something, and the rule that decides."),
    "create-token": Entry(
        "cli.tokens", "Tokens", "Issue an access and a refresh token for a user, without their password."
    ),
    "list-tokens": Entry("cli.tokens", "Tokens", "List sessions, the newest first."),
    "revoke-token": Entry("cli.tokens", "Tokens", "End a session and every token of it, at once."),
    "revoke-tokens": Entry("cli.tokens", "Tokens", "End every session of a user at once, but the one to keep."),
    "introspect-token": Entry("cli.tokens", "Tokens", "Tell what a token is good for now."),
    "create-api-key": Entry("cli.api_keys", "API keys", "Create an API key; its text is shown this once."),
    "list-api-keys": Entry("cli.api_keys", "API keys", "List API keys, the newest first."),
    "rotate-api-key": Entry("cli.api_keys", "API keys", "Replace an API key; for a while both are good."),
    "revoke-api-key": Entry("cli.api_keys", "API keys", "End an API key, at once."),
    "list-keys": Entry("cli.signing_keys", "Signing keys", "List the signing keys, the newest first."),
    "rotate-keys": Entry(
        "cli.signing_keys",
        "Signing keys",
        "Make and publish the next signing key; it signs when the wait is over, and the ones before go on verifying.",
    ),
    "retire-key": Entry(
        "cli.signing_keys", "Signing keys", "Retire a signing key: nothing that it signed is good any more."
    ),
    "migrate": Entry(
        "cli.migrations",
        "Database",
        "Bring the database to this version's schema; at head already, this changes nothing.",
    ),
    "migration-status": Entry(
        "cli.migrations", "Database", "Show where the database stands, what is pending, and who did what to it."
    ),
    "migration-history": Entry(
        "cli.migrations", "Database", "List every migration, the newest first: what it is, and who applied it when."
    ),
    "rollback": Entry(
        "cli.migrations", "Database", "Take migrations back: what they made is removed, with what is in it."
    ),
    "stamp": Entry("cli.migrations", "Database", "Say which revision the database is at; nothing else of it changes."),
    "check-models": Entry(
        "cli.migrations", "Database", "Compare the models with the database: exit code 10 if they differ."
    ),
    "make-migration": Entry(
        "cli.migrations",
        "Database",
        "Write a migration from the database to the models, and look at what it would do to others.",
    ),
    "bootstrap": Entry(
        "cli.bootstrap",
        "Provisioning",
        "Wait for the database, migrate it, and create the first superuser and an API key, as far as they are missing.",
    ),
    "list-audit": Entry("cli.audit", "Audit log", "List the audit log, the newest entries first."),
    "export-audit": Entry("cli.audit", "Audit log", "Export the audit log as JSONL, the oldest entries first."),
    "verify-audit": Entry("cli.audit", "Audit log", "Look whether the audit log is whole: exit code 5 if not."),
    "login": Entry(
        "cli.remote",
        "Server",
        "Log in to a server: a person allows it in a browser, on this machine or on any other.",
    ),
    "logout": Entry(
        "cli.remote", "Server", "Log out: the session ends on the server, and its tokens are removed from this machine."
    ),
    "whoami": Entry(
        "cli.remote",
        "Server",
        "Show the server that APICTL_SERVER names, or that this machine is logged in to, and as whom.",
    ),
    "serve": Entry("cli.server", "Server", "Serve the HTTP API in production."),
    "work": Entry(
        "cli.account_mail",
        "Server",
        "Send the mail that is queued, until a signal says stop; what is in hand then is still sent.",
    ),
    "dev": Entry("cli.server", "Server", "Serve the HTTP API while you develop: it reloads when the code changes."),
    "quickstart": Entry(
        "cli.server", "Server", "Start everything: PostgreSQL, migrations, the first superuser, the HTTP API."
    ),
    "doctor": Entry("cli.doctor", "Server", "Look at everything that may be wrong, and say what to do about it."),
    "show-config": Entry("cli.settings", "Server", "Show the settings that commands work with here, without secrets."),
    "completion": Entry(
        "cli.completion", "Server", "Print the script that makes a shell complete what you type, at the TAB key."
    ),
}


def load(name: str) -> Any:
    """Import a command's function."""
    return getattr(import_module(COMMANDS[name].module), name.replace("-", "_"))
