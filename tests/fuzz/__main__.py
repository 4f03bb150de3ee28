"""`python -m tests.fuzz`: spoilt records by the million, on all cores.

The log of a seed is always the same, so what is found is found again: --seed N --records 10000.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from multiprocessing import cpu_count

from tests.fuzz.check import RECORDS, Wrong
from tests.fuzz.on_all_cores import run


def main() -> int:
    """Run the command; exit code 1 for a difference, a crash, or memory that grows."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--records", type=int, default=10_000_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, help="of the first log (1)")
    parser.add_argument("--processes", type=int, default=cpu_count())
    args = parser.parse_args()
    logs = max(1, -(-args.records // RECORDS))
    began, outcomes = time.monotonic(), Counter[str]()
    try:
        for number, counts in enumerate(run(args.seed, logs, args.processes), 1):
            outcomes += counts
            if number % 50 == 0 or number == logs:
                seconds = time.monotonic() - began
                print(f"{number * RECORDS:,} records, {seconds:.0f} s", flush=True)
    except Wrong as wrong:
        print(wrong, file=sys.stderr)
        return 1
    for name, count in outcomes.most_common():
        print(f"{count:>12,} {name}")
    print(f"fuzz: {outcomes.total():,} records, each with one outcome, 0 differences")
    return 0


if __name__ == "__main__":
    sys.exit(main())
