"""Identifiers: UUID version 7 (RFC 9562), whose order is the order of creation."""

import sys

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    # Not `uuid_utils.UUID`: only the compat module gives the standard library's class.
    from uuid_utils.compat import uuid7

__all__ = ["uuid7"]
