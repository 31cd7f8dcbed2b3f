"""The file that settings come from: `.env` of the current folder, or a profile; `api.config` says what they mean."""

import os
import re
import stat
from pathlib import Path
from typing import Final

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from api.core.errors import BadSettings

PROFILE: Final = "APICTL_PROFILE"
FOLDER_FILE: Final = Path(".env")
SECRET_NAME: Final = re.compile(r"(KEY|PASSWORD|TOKEN)$")
SECRET_VALUE: Final = re.compile(r"//[^@]*:[^@]*@|password=")


def config_folder() -> Path:
    """Return the folder of what a person keeps for apictl (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "apictl"


def profiles() -> list[str]:
    """Return the names of the profiles that there are."""
    return sorted(file.stem for file in config_folder().glob("*.env"))


def env_file() -> Path:
    """Return the file that counts, whether it is there or not: the profile's if one is named, else `.env`.

    Raises:
        BadSettings: There is no such profile.
    """
    name = os.environ.get(PROFILE)
    if not name:
        return FOLDER_FILE
    known = profiles()
    # What is none of them is no part of a path either.
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "there is none yet"
        raise BadSettings(
            f"There is no profile {name}", hint=f"{there}; a profile is a file {config_folder() / 'NAME.env'}"
        )
    return config_folder() / f"{name}.env"


def read(file: Path) -> dict[str, str | None]:
    """Return what a file sets; nothing if it is not there.

    Raises:
        BadSettings: It cannot be read, or is not UTF-8; somebody else could have written it, who would name programs to
            run and keys to sign with; or it is a profile with a secret that everybody can read.
    """
    try:
        about = file.stat()
    except FileNotFoundError:
        if not file.is_symlink():
            return {}
        raise BadSettings(f"{file} cannot be read", cause="it points to what is not there") from None
    except OSError as error:
        raise BadSettings(f"{file} cannot be read", cause=error.strerror) from None
    if stat.S_ISDIR(about.st_mode):
        if file == FOLDER_FILE:
            # Some call a virtual environment so.
            return {}
        raise BadSettings(f"{file} is no file")
    if about.st_uid not in {os.geteuid(), 0} or about.st_mode & 0o002:
        raise BadSettings(
            f"{file.resolve()} could have been written by somebody else",
            hint="make it your own (chown, chmod o-w), or set the variables in the environment",
        )
    try:
        found = dotenv_values(file, interpolate=False)
    except OSError as error:
        raise BadSettings(f"{file.resolve()} cannot be read", cause=error.strerror) from None
    except UnicodeError:
        raise BadSettings(f"{file.resolve()} is not UTF-8 text") from None
    # Not `.env`: it is made by `cp .env.example .env`, in folders that are nobody else's.
    if about.st_mode & 0o004 and os.environ.get(PROFILE) and any(map(is_secret, found, found.values())):
        raise BadSettings(f"Everybody can read {file}, which holds a secret", hint=f"chmod 600 '{file}'")
    return found


def is_secret(name: str, value: str | None) -> bool:
    """Tell whether a line of such a file is a secret: by its name, or a URL with a password."""
    return bool(value) and bool(SECRET_NAME.search(name) or SECRET_VALUE.search(value or ""))


def lines(file: Path) -> dict[str, int]:
    """Return the number of the line that sets each variable: the last one, if several do."""
    found = {}
    with file.open(encoding="utf-8") as opened:
        for binding in parse_stream(opened):
            if binding.key:
                # Empty lines before it belong to it.
                before = binding.original.string.partition(binding.key)[0]
                found[binding.key] = binding.original.line + before.count("\n")
    return found
