"""Files that hold what nobody else may read."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replaced(file: Path) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of another when all of it is written; nobody else may read it.

    Raises:
        BadRequest: It cannot be written.
    """
    from api.core.errors import BadRequest

    scratch = file.parent / f"{file.name}.{secrets.token_hex(4)}"
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            yield target
        scratch.replace(file)
    except OSError as error:
        raise BadRequest(f"{file} cannot be written", cause=error.strerror) from None
    finally:
        scratch.unlink(missing_ok=True)
