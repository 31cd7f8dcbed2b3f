"""The file that a login to a server is kept in. No network here."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from api.core.errors import BadRequest
from api.env_file import config_folder
from api.urls import is_server_url
from cli.files import replaced

TOKENS = ("access_token", "refresh_token")
# RFC 6750, section 2.1. What else is in a header makes errors, which would show it.
TOKEN = re.compile(r"[\w.~+/-]+=*", re.ASCII)


def place() -> Path:
    """Return the file that the tokens are kept in."""
    return config_folder() / "login.json"


def read() -> dict[str, str] | None:
    """Return what is kept of a login; None if nobody is logged in.

    Raises:
        BadRequest: Others can read the file, or it is none of ours.
    """
    path = place()
    try:
        if path.stat().st_mode & 0o077:
            raise BadRequest(
                f"Others can read {path}", hint=f"its tokens may be known: log in again, after rm '{path}'"
            )
        found = json.loads(path.read_text(encoding="utf-8"))
        kept = {name: str(found[name]) for name in ("server", *TOKENS)}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadRequest(f"{path} cannot be read", cause=error.strerror) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadRequest(f"{path} is damaged", hint=f"log in again, after rm '{path}'") from None
    if not is_server_url(kept["server"]) or not all(TOKEN.fullmatch(kept[name]) for name in TOKENS):
        raise BadRequest(f"{path} is damaged", hint=f"log in again, after rm '{path}'")
    return kept


def writable() -> None:
    """Find out whether a login can be kept.

    Raises:
        BadRequest: It cannot.
    """
    from tempfile import TemporaryFile

    path = place()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise BadRequest(
            f"{path} cannot be written", cause=error.strerror, hint="XDG_CONFIG_HOME names another folder"
        ) from None


def write(server: str, tokens: Mapping[str, str]) -> None:
    """Keep a login to a server, in a file that only its owner can read, whole or not at all."""
    path = place()
    writable()
    with replaced(path) as file:
        file.write(json.dumps({"server": server} | {name: tokens[name] for name in TOKENS}).encode())
