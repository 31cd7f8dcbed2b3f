"""Makes of Django's `dumpdata auth.user` what `apictl import-users` reads; people keep their passwords.

How to run it:

    python3 manage.py dumpdata auth.user --output users.json
    python3 convert.py <users.json | apictl import-users - --format jsonl

The file next to this one is such a dump. Hashes of any of Django's hashers go over as they are, and become ours at
each one's first login; who had no usable password there has none here. Who was deactivated stays so, and a superuser
is one. Users without an address are said on stderr and left out. Groups and permissions are not taken: roles are sets
of scopes, and yours to make.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

# Before what Django calls an unusable password.
UNUSABLE = "!"


def rows(dump: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each user who has an address."""
    for entry in dump:
        if entry["model"] != "auth.user":
            continue
        user = entry["fields"]
        if not user["email"]:
            print(f"{user['username']}: has no e-mail address; left out", file=sys.stderr)
            continue
        row = {
            "email": user["email"],
            "full_name": f"{user['first_name']} {user['last_name']}".strip(),
            "is_active": user["is_active"],
            "is_superuser": user["is_superuser"],
            "created_at": user["date_joined"],
        }
        if not user["password"].startswith(UNUSABLE):
            row["password_hash"] = user["password"]
        yield row


if __name__ == "__main__":
    try:
        given = json.load(sys.stdin)
    except ValueError as error:
        sys.exit(f"what comes in is no JSON: {error}")
    for row in rows(given):
        print(json.dumps(row))
