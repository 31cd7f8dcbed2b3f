"""`make run`: `apictl quickstart`, for which Ctrl-C is the ordinary end and no error that make should report."""

import sys
from pathlib import Path

from cli.main import run

if __name__ == "__main__":
    # What quickstart tells people to type next begins with the name that it was called by.
    sys.argv = [str(Path(sys.executable).parent / "apictl"), "quickstart"]
    try:
        code = run()
    except SystemExit as end:
        code = end.code  # type: ignore[assignment]  # ours are numbers
    sys.exit(0 if code == 130 else code)
