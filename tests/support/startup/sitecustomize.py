"""Imported by Python itself in every process that has this folder in PYTHONPATH, which is measured by that."""

import sys
from pathlib import Path

root = str(Path(__file__).parent.parent.parent.parent)
sys.path.append(root)
import tests  # noqa: E402, F401 - importing it starts it

sys.path.remove(root)
