"""Give Polars one thread, in a process that runs a flow.

More cores are used by more processes; the threads of a pool in each of them would only compete for
the same cores. Polars reads the variable when it is imported first, and has no call
for it afterwards. So this is the first import of our own in each flow and in `launch`; other
programs that import this package keep the threads that they have. A number that is set stays.
"""

from __future__ import annotations

import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")
