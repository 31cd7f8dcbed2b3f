"""Who sits at this terminal."""

import os


def operator_name() -> str:
    """Return who sits at this terminal, for the audit log: the account, the machine, and the CI job if there is one."""
    import getpass
    import socket

    try:
        account = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        # A container's uid may have no name.
        account = str(os.getuid())
    job = os.environ.get("GITHUB_RUN_ID") or os.environ.get("CI_JOB_ID") or os.environ.get("BUILD_ID")
    name = f"{account}@{socket.gethostname()}" + (f" job {job}" if job else "")
    return "".join(character for character in name if character.isprintable())[:200]
