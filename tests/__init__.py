"""The tests. What they reach is measured from here on: this is imported before anything of ours, in every process."""

from tests.support.measuring import start

start()
