"""Inputs that nobody thought of, made until something gives: `make fuzz`."""
