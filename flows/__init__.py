"""The dataflows of shopstream, one file each."""

import os

# One core a process: more cores are more processes (threads of a pool only fight for the two of
# them). Polars reads this when it is imported first.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
