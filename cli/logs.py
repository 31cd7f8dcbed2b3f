"""What is logged on stderr: by `-v` and `-vv`, and by what serves or works until a signal comes."""

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cli.call import Call


def log_to_stderr(*, statements: bool) -> None:
    """Log what is done from now on, each line with the milliseconds since the start; SQL statements if asked for."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(relativeCreated)6.0f ms  %(message)s"))
    # Named one by one: what other libraries say at these levels may have headers, and so tokens, in it.
    for name, level in (("api", logging.DEBUG if statements else logging.INFO), ("httpx2", logging.INFO)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False


def begin_log(call: "Call", *, requests: bool = False) -> dict[str, Any]:
    """Write from now on what this process says as a server's log; return how, for the processes that it starts.

    Before anything is opened, so that no line is of another form. `requests`: each has a line in it, unless the
    settings say otherwise.
    """
    import logging.config
    import sys

    from api.core import logs

    level = "error" if call.quiet else call.settings.log_level
    found = logs.configuration(
        call.settings.log_format or ("text" if sys.stderr.isatty() else "json"),
        level,
        requests=requests if call.settings.log_requests is None else call.settings.log_requests,
        # What -v asked for, if it did.
        statements=logging.getLogger("api").level or (logging.DEBUG if level == "debug" else logging.WARNING),
    )
    logging.config.dictConfig(found)
    return found
