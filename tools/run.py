"""`make run`: `apictl quickstart`, for which Ctrl-C is the ordinary end and no error that make should report."""

import sys
from pathlib import Path

from cli.main import run

if __name__ == "__main__":
    # What quickstart tells people to type next begins with the name that it was called by.
    sys.argv = [str(Path(sys.executable).parent / "apictl"), "quickstart"]
    try:
        run()
    except SystemExit as end:
        sys.exit(0 if end.code == 130 else end.code)
