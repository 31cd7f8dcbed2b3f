"""Makes of a Keycloak realm's export what `apictl import-users` reads; people keep their passwords.

How to run it: export the realm with its users, `kc.sh export --realm shop --users realm_file --file realm-export.json`
(what the admin console exports has none), and then

    python3 convert.py <realm-export.json | apictl import-users - --format jsonl

The file next to this one is such an export. Hashes (argon2, pbkdf2 with any SHA) go over as they are, and become ours
at each one's first login. Disabled people stay so. What cannot go over is said on stderr, with what to do about it:
accounts of machines, people without an address, second factors. Roles are yours to make; give them with `apictl
grant-role`.
"""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any


def say(text: str) -> None:
    """Tell the person what they have to do themselves."""
    print(text, file=sys.stderr)


def rows(realm: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for each person who has an address."""
    for user in realm.get("users", []):
        name = user["username"]
        if client := user.get("serviceAccountClientId"):
            say(f"{name}: a machine; apictl create-service-account {client.lower()}, then create-api-key")
            continue
        if not user.get("email"):
            say(f"{name}: has no e-mail address; left out")
            continue
        credentials = user.get("credentials", [])
        passwords = [one for one in credentials if one["type"] == "password"]
        if len(passwords) < len(credentials):
            say(f"{name}: has a second factor; they add one anew at /account")
        row = {
            "email": user["email"],
            "full_name": f"{user.get('firstName', '')} {user.get('lastName', '')}".strip(),
            "is_active": user["enabled"],
        }
        # In milliseconds; the oldest users have none.
        if created := user.get("createdTimestamp"):
            row["created_at"] = datetime.fromtimestamp(created / 1000, UTC).isoformat()
            if user.get("emailVerified"):
                # When that was, Keycloak does not know.
                row["email_verified_at"] = row["created_at"]
        if passwords:
            row["password_hash"] = passwords[0]
        yield row


if __name__ == "__main__":
    try:
        given = json.load(sys.stdin)
    except ValueError as error:
        sys.exit(f"what comes in is no JSON: {error}")
    for row in rows(given):
        print(json.dumps(row))
