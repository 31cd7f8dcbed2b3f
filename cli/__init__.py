"""The terminal tool."""

import gc
import os

# As Python has it: how many objects are made between two looks for garbage. `cli.start` makes them rare.
THRESHOLD = gc.get_threshold()
# As the terminal is; `cli.main.without_colors` may say less of it.
TERM = os.environ.get("TERM", "dumb")
