"""Give a process that runs a flow what one busy thread needs, and no more.

More cores are used by more processes; the threads of Polars' pool in each of them would only
compete for the same cores. And memory that each thread and each library keeps for itself is memory
that nobody else has. The libraries read the variables when they are imported first, and have no
call for it afterwards. So this is the first import of our own in each flow and in `launch`; other
programs that import this package keep what they have. A variable that is set stays.
"""

from __future__ import annotations

import ctypes
import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

# By their numbers in glibc's malloc.h; other C libraries have no `mallopt`. One arena; and the
# arrays of a batch go back to the system with it, instead of making holes.
ALLOCATOR = {"MALLOC_ARENA_MAX": (-8, 1), "MALLOC_MMAP_THRESHOLD_": (-3, 1 << 20)}

if hasattr(libc := ctypes.CDLL(None), "mallopt"):
    for name, (number, value) in ALLOCATOR.items():
        if name not in os.environ:
            libc.mallopt(number, value)
