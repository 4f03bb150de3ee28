"""`python -m bench.peers`: our four flows and Flink SQL on the same topic, in turns.

Every pair ends with a comparison of all rows; a difference is an error and no figure is written.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import session
from bench.drain import DrainResult, drain
from bench.fill import HEALTHY, fill
from bench.peers import flink_sql
from bench.peers.compare import compare_tables
from bench.sandbox import Sandbox, open_sandbox
from flows.registry import UPSTREAM_FIRST
from shopstream.demo.dev_services import Services

RESULTS = Path(__file__).parents[1] / "results" / "peers.json"
FORMS = ("event", "batch")
COMPARED = ("eps", "from_process_start_eps", "cpu_s_per_million", "rss_mib")
INFRASTRUCTURE = ("broker", "postgres", "bench")


def figures(run: DrainResult) -> dict[str, float]:
    """Give an engine's own figures of a run: without broker, database and this process.

    Units: events per second, CPU seconds per million events, MiB of all its processes together.
    """
    own = sum(s for name, s in run.cpu_s_per_million.items() if name not in INFRASTRUCTURE)
    return {
        "eps": round(run.work_eps),
        "from_process_start_eps": round(run.start_eps),
        "cpu_s_per_million": round(own, 2),
        "rss_mib": round(sum(run.rss_mib.values())),
        **run.usage.shares(),
    }


def pair(ours: DrainResult, theirs: DrainResult, rows: dict[str, int]) -> dict[str, Any]:
    """Set two runs on one topic side by side; `ratios` are ours to theirs."""
    mine, other = figures(ours), figures(theirs)
    ratios = {name: round(mine[name] / other[name], 3) for name in COMPARED}
    return {"ours": mine, "flink": other, "ratios": ratios, "rows_compared": rows}


def medians(pairs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Give the median of each figure and of each ratio over the pairs."""
    return {
        side: {name: round(median(p[side][name] for p in pairs), 3) for name in pairs[0][side]}
        for side in ("ours", "flink", "ratios")
    }


def measure(services: Services, events: int, repeats: int, form: str) -> list[dict[str, Any]]:
    """Fill a topic for each pair, and let both drain it; who is first changes in turns.

    Errors: BenchError when one fails, or when their rows differ.
    """
    pairs = []
    for number in range(repeats):
        name = f"peers-{secrets.token_hex(3)}"
        with open_sandbox(services, name, form=form) as ours:
            records = fill(ours, events, HEALTHY).records
            raw = ours.settings.topic("topic_raw_web")
            with open_sandbox(services, f"{name}-flink", raw) as theirs:
                mine, other = turns(services, ours, theirs, records, flink_first=number % 2 == 1)
                pairs.append(pair(mine, other, compare_tables(ours, theirs)))
        print(f"{form}: {json.dumps(pairs[-1]['ratios'])}", flush=True)
    return pairs


def turns(
    services: Services, ours: Sandbox, theirs: Sandbox, records: int, flink_first: bool
) -> tuple[DrainResult, DrainResult]:
    """Run both, one after the other."""
    if flink_first:
        other = flink_sql.drain(services, theirs, records)
        return drain(services, ours, UPSTREAM_FIRST, records), other
    mine = drain(services, ours, UPSTREAM_FIRST, records)
    return mine, flink_sql.drain(services, theirs, records)


def main(arguments: Sequence[str]) -> int:
    """Measure the pairs, write the results, and give the exit code."""
    args = parser().parse_args(arguments)
    results = session.about("bench.peers", arguments) | {"events": args.events}

    def work(services: Services) -> None:
        flink_sql.build()
        for form in args.forms:
            pairs = measure(services, args.events, args.repeats, form)
            results[form] = {"medians": medians(pairs), "pairs": pairs}
        session.write(results, args.out)

    return session.run(work)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    options = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    options.add_argument("--events", type=int, default=3_000_000, metavar="N", help="(3000000)")
    options.add_argument("--repeats", type=int, default=3, metavar="N", help="pairs (3)")
    options.add_argument(
        "--forms", nargs="+", choices=FORMS, default=FORMS, help="records of clean.web (both)"
    )
    options.add_argument("--out", type=Path, default=RESULTS, metavar="FILE")
    return options


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
