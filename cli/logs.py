"""The log of `-v` and `-vv`, on stderr."""

import logging


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
