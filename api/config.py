"""Settings: what a deployment may decide, each from `APICTL_<NAME>`, the file of `api.env_file`, or its default here.

Nothing in this module opens, connects or starts anything.
"""

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from api import urls
from api.core.errors import BadSettings, FieldError
from api.env_file import PROFILE, env_file, lines, read

PREFIX: Final = "APICTL_"
# Read from the environment only: by the terminal tool itself, by the embedded PostgreSQL, or to find the file.
OTHER_VARIABLES: Final = frozenset(
    {"APICTL_METRICS_FOLDER", "APICTL_PASSWORD", "APICTL_POSTGRES_USER", PROFILE, "APICTL_STATE_DIR"}
)

# What Kubernetes sets for a Service called apictl.
NOT_OURS: Final = re.compile(r"APICTL_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_.+)?)")

Seconds = Annotated[int, Field(ge=1, le=10 * 365 * 86400)]


# The names of RFC 7518 and RFC 8037. EdDSA is Ed25519 here, and no other curve.
Algorithm = Literal["EdDSA", "ES256", "RS256", "HS256"]


class Given(NamedTuple):
    """What is set: by which variable, and in which file; None is the environment."""

    value: str
    variable: str
    file: Path | None

    @property
    def where(self) -> str:
        """The variable and its place, as a person is told."""
        return f"{self.variable} of {self.file or 'the environment'}"


class Settings(BaseModel):
    """The settings of one process; frozen, and constructed only through `Settings.load`."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    database_url: Annotated[
        SecretStr | None,
        Field(description="PostgreSQL >= 14, in any form of URL that libpq reads. Unset: the embedded PostgreSQL."),
    ] = None
    server: Annotated[
        str | None, Field(description="The server that commands work on over HTTP, in place of a database.")
    ] = None
    token: Annotated[
        SecretStr | None,
        Field(description="An API key or access token for it. Unset: what `apictl login` got."),
    ] = None
    token_file: Annotated[Path | None, Field(description="The same, in a file that not everybody can read.")] = None
    home: Annotated[Path, Field(description="Where the embedded PostgreSQL and the generated secret key are kept.")] = (
        Path(".apictl")
    )
    postgres_bin: Annotated[
        Path | None,
        Field(description="Folder of PostgreSQL's own binaries, where the packaged ones do not run (musl)."),
    ] = None
    secret_key: Annotated[
        SecretStr | None,
        Field(description="Seals keys, makes refresh tokens; 32 bytes at least. Unset: the one that quickstart made."),
    ] = None
    listen_host: Annotated[str, Field(min_length=1, description="Address that the server listens on.")] = "127.0.0.1"
    # Not `port`: Kubernetes gives the pods beside a Service called apictl an APICTL_PORT of its own, a URL.
    listen_port: Annotated[
        int, Field(ge=0, le=65535, description="Port that the server listens on; 0 takes a free one.")
    ] = 8000
    issuer: Annotated[
        str,
        Field(
            description="Your public URL: `iss` and `aud` of the access tokens, the start of every link, and where "
            "passkeys are good. Unset: links and passkeys are this machine's, whatever the port."
        ),
    ] = "http://localhost:8000"
    signing_algorithm: Annotated[
        Algorithm,
        Field(description="What new signing keys sign access tokens with; nobody but us can verify HS256."),
    ] = "EdDSA"
    access_token_ttl: Annotated[Seconds, Field(description="Seconds that an access token is good for.")] = 900
    session_ttl: Annotated[
        Seconds, Field(description="Seconds after a login when its refresh tokens end, used or not.")
    ] = 30 * 86400
    refresh_grace: Annotated[
        int,
        Field(
            ge=0,
            le=300,
            description="Seconds during which a refresh token used twice gets the same successor. 0: strict.",
        ),
    ] = 10
    password_min_length: Annotated[
        int, Field(ge=8, le=128, description="Shortest password that is accepted, in characters.")
    ] = 15
    throttle_url: Annotated[
        SecretStr | None,
        Field(description="The Valkey or Redis that guesses are counted in. Unset: the database."),
    ] = None
    pool_size: Annotated[
        int,
        Field(
            ge=1,
            le=200,
            description="Database connections per process, besides nine for what all requests ask, and probes.",
        ),
    ] = 10
    pool_timeout: Annotated[
        float, Field(gt=0, le=60, description="Seconds to wait for a free connection before 503.")
    ] = 2.0
    connect_timeout: Annotated[
        float, Field(gt=0, le=60, description="Seconds to wait for the database to accept a connection.")
    ] = 3.0
    statement_timeout: Annotated[float, Field(gt=0, le=3600, description="Seconds that a statement may take.")] = 4.0
    request_timeout: Annotated[
        float, Field(ge=2, le=3600, description="Seconds that a request may take before 504; long work has no limit.")
    ] = 8.0
    drain_timeout: Annotated[
        float,
        Field(ge=0, le=300, description="Seconds that a server told to stop still answers, for balancers to notice."),
    ] = 2.0
    max_body_bytes: Annotated[
        int, Field(ge=1024, le=1 << 30, description="Largest request body, in bytes; beyond it 413.")
    ] = 64 * 1024
    max_import_bytes: Annotated[
        int,
        Field(ge=1024, le=1 << 30, description="Largest file of users in a request, in bytes; none on the terminal."),
    ] = 16 * 1024 * 1024
    allowed_hosts: Annotated[
        str,
        Field(
            description="Further names that the server goes by: `api.example.com, *.example.org`; `*`: whatever it is "
            "called. The host of APICTL_ISSUER, addresses, `localhost` and names without a dot are none of them."
        ),
    ] = ""
    trusted_proxies: Annotated[
        str,
        Field(
            description="Proxies in front, by address or network: `10.0.0.0/8, ::1`. What they say in X-Forwarded-For "
            "and X-Forwarded-Proto is believed, and nobody else."
        ),
    ] = ""
    cors_origins: Annotated[
        str, Field(description="Web sites whose pages may ask, and read the answers: `https://app.example.com`.")
    ] = ""
    metrics_port: Annotated[
        int | None,
        Field(
            ge=0,
            le=65535,
            description="Port for Prometheus, where /metrics is and nothing else. Unset: nothing is counted.",
        ),
    ] = None
    metrics_host: Annotated[
        str,
        Field(min_length=1, description="Address of that port; whoever reaches it may read it, without credentials."),
    ] = "127.0.0.1"
    otlp_endpoint: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[!-~]+$",
            description="OpenTelemetry collector that gets traces, as http://127.0.0.1:4318. Unset: none are made.",
        ),
    ] = None
    registration: Annotated[
        Literal["closed", "invitation", "open"],
        Field(description="Who makes an account by mail: nobody, who is invited, or everybody."),
    ] = "closed"
    smtp_url: Annotated[
        SecretStr | None,
        Field(
            description="What sends mail: smtps://, smtp+starttls:// or smtp:// (unencrypted) with USER:PASSWORD@HOST; "
            "or file:FOLDER, to keep it there. Unset: kept in APICTL_HOME/mail if the PostgreSQL is the embedded one."
        ),
    ] = None
    mail_from: Annotated[
        str | None,
        Field(description="Whom mail is from, as Accounts <accounts@example.com>. Unset: no-reply at APICTL_ISSUER."),
    ] = None
    work_in_serve: Annotated[
        bool, Field(description="Servers send the mail, too; false, where `apictl work` does.")
    ] = True
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="How much the server logs.")
    ] = "info"
    log_format: Annotated[
        Literal["json", "text"] | None,
        Field(description="What a line of the server's log is. Unset: text on a terminal, JSON everywhere else."),
    ] = None
    log_requests: Annotated[
        bool | None,
        Field(
            description="A line in the log for each request, without what was sent; `serve` answers a seventh less. "
            "Unset: only in `dev` and `quickstart`."
        ),
    ] = None

    _issuer = field_validator("issuer", "server")(urls.public)
    _database_url = field_validator("database_url")(urls.of_postgresql)
    _throttle_url = field_validator("throttle_url")(urls.of_valkey)
    _smtp_url = field_validator("smtp_url")(urls.of_mail)
    _mail_from = field_validator("mail_from")(urls.sender)
    _lists = field_validator("allowed_hosts", "trusted_proxies", "cors_origins")(urls.list_of_them)

    @property
    def mail_url(self) -> SecretStr | None:
        """How mail is sent, if it is: beside the embedded PostgreSQL, of which nobody need know more, into a folder."""
        if self.smtp_url is None and self.database_url is None:
            return SecretStr(f"file:{quote(str(self.home / 'mail'))}")
        return self.smtp_url

    @property
    def public_url(self) -> str:
        """Where people and programs open this deployment: by name, because browsers offer no passkeys at an address.

        Not the issuer, if none is set: the terminal, which knows nothing of `--port`, makes tokens for the same server.
        """
        return self.issuer if "issuer" in self.model_fields_set else f"http://localhost:{self.listen_port}"

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Read the settings; `flags` (those that are not None) win over every other source.

        Raises:
            BadSettings: A value is unusable, or an `APICTL_*` variable is none of ours.
        """
        found = given()
        variables = {name: found.get(variable_name(name)) for name in cls.model_fields}
        values: dict[str, Any] = {name: one and one.value for name, one in variables.items()}
        values |= {name: value for name, value in flags.items() if value is not None}
        try:
            return cls(**{name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            refused = [
                FieldError.of(item, variable_name(str(item["loc"][0])))
                for item in error.errors(include_input=False, include_context=False, include_url=False)
            ]
            names = "; ".join(f"{item['field']}: {item['message']}" for item in refused)
            places = {found[item["field"]].where for item in refused if item["field"] in found}
            raise BadSettings(
                "The settings cannot work", cause=names,
                hint=f"correct {', '.join(sorted(places))}" if places else None, errors=refused,
            ) from None  # fmt: skip


def variable_name(field: str) -> str:
    """Return the environment variable of a field, as a person would set it."""
    return PREFIX + field.upper()


def given() -> dict[str, Given]:
    """Return what is set of our variables, and where: the environment wins over the file.

    Raises:
        BadSettings: The file cannot be read, or an `APICTL_*` variable is none of ours.
    """
    # Not by pydantic-settings, which takes longer to import than all of this module.
    settings = set(map(variable_name, Settings.model_fields))
    file = env_file()
    found: dict[str, Given] = {}
    for where, source in ((file, read(file)), (None, os.environ)):
        refuse_unknown_variables(source, settings, where)
        here = {name: Given(value, name, where) for name, value in source.items() if value}
        if "DATABASE_URL" in here:
            # As platforms name it: in the environment, it wins over a file.
            here.setdefault("APICTL_DATABASE_URL", here["DATABASE_URL"])
        found |= here
    return found


def refuse_unknown_variables(names: Iterable[str], settings: set[str], file: Path | None) -> None:
    """Refuse `APICTL_*` names that nothing reads there: a misspelt setting must not be silently ignored.

    Raises:
        BadSettings: Names the variable and the nearest one that exists.
    """
    known = settings | (OTHER_VARIABLES if file is None else set())
    for name in sorted(set(names) - known):
        if name in OTHER_VARIABLES:
            raise BadSettings(f"{name} is read from the environment, and not from {file}")
        if name.upper().startswith(PREFIX) and not NOT_OURS.fullmatch(name):
            nearest = difflib.get_close_matches(name.upper(), sorted(known), n=1)
            raise BadSettings(
                f"{name} is not a setting",
                cause="it is set in the environment" if file is None else f"{file}, line {lines(file)[name]}, sets it",
                hint=f"did you mean {nearest[0]}?" if nearest else "see .env.example for every setting",
            )
