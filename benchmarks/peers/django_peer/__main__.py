"""`python -m benchmarks.peers.django_peer seed N` makes the tables in an empty database and fills them.

`… tokens N` prints refresh tokens of so many users.
"""

import argparse
import os

import django
from django.contrib.auth.hashers import make_password
from django.core.management import call_command
from django.db import connection

PASSWORD = "correct horse battery staple"
SEED = """
    INSERT INTO auth_user
        (username, email, password, first_name, last_name, is_active, is_staff, is_superuser, date_joined)
    SELECT 'user' || n || '@example.com', 'user' || n || '@example.com', %s, '', '', true, n = 1, n = 1, now()
    FROM generate_series(1, %s) AS n
"""


def seed(count: int) -> None:
    """Make the tables, and `count` users that share one password hash; the first is staff and a superuser."""
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(SEED, [make_password(PASSWORD), count])


def tokens(count: int) -> None:
    """Print refresh tokens, a line each."""
    from django.contrib.auth.models import User  # noqa: PLC0415 -- Django wants to be set up first
    from rest_framework_simplejwt.tokens import RefreshToken  # noqa: PLC0415

    for user in User.objects.order_by("id")[:count]:
        print(RefreshToken.for_user(user))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.django_peer")
    parser.add_argument("command", choices=["seed", "tokens"])
    parser.add_argument("users", type=int)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.peers.django_peer.settings")
    django.setup()
    {"seed": seed, "tokens": tokens}[options.command](options.users)
