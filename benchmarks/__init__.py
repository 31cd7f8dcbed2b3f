"""How fast it is, as ratios to what this machine can do: `make bench`, `make bench-cli`."""
