"""Every feature's tables, imported so that the metadata is complete for Alembic."""

from api.api_keys import models as api_keys
from api.audit import models as audit
from api.database import Base
from api.devices import models as devices
from api.factors import models as factors
from api.idempotency import models as idempotency
from api.mail import models as mail
from api.migrations import models as migrations
from api.roles import models as roles
from api.signing_keys import models as signing_keys
from api.state import models as state
from api.throttle import models as throttle
from api.tokens import models as tokens
from api.users import models as users

__all__ = [
    "api_keys",
    "audit",
    "devices",
    "factors",
    "idempotency",
    "mail",
    "metadata",
    "migrations",
    "roles",
    "signing_keys",
    "state",
    "throttle",
    "tokens",
    "users",
]

metadata = Base.metadata
