"""What a server keeps of the memory that hashes take, 19 MiB each: nothing, once nobody logs in any more.

glibc gives each thread a heap of its own, and keeps what was freed there for the next hash. One heap for all can be
trimmed, and is as fast, if that is not done between two hashes: by itself, glibc does it when two were freed, and to
have their memory mapped anew costs a sixth of their rate.
"""

import ctypes
from typing import Final

# Of mallopt(3).
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
# The most that it takes; and what no number of cores hashes in at once.
MOST_MAPPED, NEVER_TRIMMED = 32 << 20, 2**31 - 1
LIBC: Final = ctypes.CDLL(None)


def one_heap() -> None:
    """Have all threads share the main heap; to be called before there are any, as they keep what they have."""
    # Other libraries than glibc have neither, and no such heaps.
    if hasattr(LIBC, "mallopt"):
        LIBC.mallopt(M_ARENA_MAX, 1)
        LIBC.mallopt(M_MMAP_THRESHOLD, MOST_MAPPED)
        LIBC.mallopt(M_TRIM_THRESHOLD, NEVER_TRIMMED)


def give_back() -> None:
    """Return to the system what is free."""
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)
