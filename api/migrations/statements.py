"""SQL as text: its statements, what each of them does, and patterns that tell one from another.

What that means to a database, and to those who work on it, is for `lint` to say.
"""

import re
from typing import Final

NAME: Final = r'(?:(?:"[^"]+")+|\w+)(?:\.(?:(?:"[^"]+")+|\w+))?'
# A column of such a name is quoted.
CONSTRAINT: Final = r"(?:CHECK|FOREIGN|NOT|PRIMARY|UNIQUE)\b|EXCLUDE (?:USING\b|\()"
SHORTHANDS: Final = {
    "ALTER_TABLE": "ALTER TABLE (?:IF EXISTS )?+(?:ONLY )?+TABLE_NAME",
    "ADD_COLUMN": rf"ADD (?!CONSTRAINT |{CONSTRAINT})(?:COLUMN )?+(?:IF NOT EXISTS )?+ITS_NAME",
    # A column or a constraint; the word that is looked for stands at once or later.
    "ADD_WITH": rf"ADD (?:COLUMN |CONSTRAINT )?+(?:IF NOT EXISTS )?+(?:(?!{CONSTRAINT})ITS_NAME )?+(?:.* )?",
    "ALTER_COLUMN": "ALTER (?:COLUMN )?+ITS_NAME",
    "DROP_COLUMN": "DROP (?!CONSTRAINT )(?:COLUMN )?+(?:IF EXISTS )?+ITS_NAME",
    "TABLE_NAME": f"(?P<table>{NAME})",
    "ITS_NAME": f"(?P<name>{NAME})",
    "ANY_NAME": NAME,
}


def pattern(text: str) -> re.Pattern[str]:
    """Return a pattern for a statement, which may have the shorthands."""
    for short, whole in SHORTHANDS.items():
        text = text.replace(short, whole)
    return re.compile(text, re.IGNORECASE | re.DOTALL)


GAP: Final = r"(?:\s|--[^\n]*|/\*.*?\*/)"
TOKEN: Final = re.compile(
    rf"""(?P<comma>{GAP}*+,{GAP}*+)
    |(?P<gap>{GAP}++)
    |(?P<end>;)
    |(?P<quoted>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag))
    |"[^"]*"
    |\w[\w$]*
    |.""",
    re.DOTALL | re.VERBOSE,
)
UNQUOTED: Final = r'(?=(?:[^"]*"[^"]*")*[^"]*$)'
ALTER: Final = pattern("ALTER TABLE (?:IF EXISTS )?+(?:ONLY )?+ANY_NAME ")
NEXT_ACTION: Final = pattern(rf", (?=(?:ADD|ALTER|DROP|RENAME|SET|VALIDATE) ){UNQUOTED}")
OF_MANY: Final = pattern(
    r"((?:DROP (?:INDEX|SCHEMA|TABLE)|LOCK|TRUNCATE)(?: (?:CONCURRENTLY|IF EXISTS|TABLE)\b)*+) "
    r"((?:ONLY )?+ANY_NAME(?:, (?:ONLY )?+ANY_NAME)*)"
)
ONE_OF_MANY: Final = pattern("(?:ONLY )?+(ANY_NAME)")


def statements(script: str) -> list[str]:
    """Return the statements of an SQL script, each in one line and without its comments."""
    found = [""]
    for token in TOKEN.finditer(script):
        if token["end"]:
            found.append("")
        else:
            found[-1] += ", " if token["comma"] else " " if token["gap"] else token[0]
    return [one.strip() for one in found if one.strip()]


def actions(statement: str) -> list[str]:
    """Return each thing that a statement does as a statement of its own, with nothing in its quotes.

    What stands in quotes is no word of SQL. A statement that does one thing keeps its length: a place in it is the
    same place in the original.
    """
    blank = TOKEN.sub(lambda token: f"'{' ' * (len(token[0]) - 2)}'" if token["quoted"] else token[0], statement)
    if match := ALTER.match(blank):
        return [match[0] + part for part in NEXT_ACTION.split(blank[match.end() :])]
    if match := OF_MANY.match(blank):
        return [f"{match[1]} {name}{blank[match.end() :]}" for name in ONE_OF_MANY.findall(match[2])]
    return [blank]


def bare(name: str) -> str:
    """Return an identifier without its schema and quotes."""
    return re.split(rf"\.{UNQUOTED}", name)[-1].strip('"')
