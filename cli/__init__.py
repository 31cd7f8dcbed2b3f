"""The terminal tool."""

import gc

# As Python has it: how many objects are made between two looks for garbage. `cli.start` makes them rare.
THRESHOLD = gc.get_threshold()
