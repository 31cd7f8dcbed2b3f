"""One parser under atheris, in a process of its own: `python -m fuzz.target NAME [options of libFuzzer] FOLDER`."""

import sys

import atheris

with atheris.instrument_imports(include=["api", "cli"]):
    from fuzz.parsers import PARSERS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, next(parser for parser in PARSERS if parser.__name__ == name))
    atheris.Fuzz()
