"""`python -m bench.panels`: how long each query of each board takes on thirty days of history.

Fill a database first (`python -m shopstream history --days 30`), or name another one. Each query is
sent as Grafana sends it, read only, for the ranges that people choose; the first run of each warms
the cache and is not counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from bench.resources import machine
from grafana.boards import BOARDS, BY_UID
from grafana.dashboard import Board, annotation_queries
from grafana.macros import Surroundings, expand
from grafana.queries import Sql
from grafana.to_grafana import queries_of
from shopstream.demo.dev_services import native
from tools.panels.frames import choose

RESULTS = Path(__file__).parent / "results" / "panels.json"
P95_MS = 150.0
VIEWERS, MOST_CORES = 10, 0.25  # who look at one board, and what the database may need for them
OPENED_HOURS = {"now-1h": 1, "now-6h": 6, "now-24h": 24, "now/d": 24}
RANGES = {"1h": 1, "6h": 6, "24h": 24, "7d": 7 * 24, "30d": 30 * 24}
BIG = (
    "gold.traffic",
    "gold.orders",
    "gold.sales",
    "gold.products",
    "gold.searches",
    "quality.outcomes",
    "quality.rules",
)


@dataclass(frozen=True)
class PanelQuery:
    """A query of a board, by the name of its panel, variable or annotation."""

    board: str
    name: str
    sql: Sql


@dataclass
class Timing:
    """Milliseconds of the counted runs of a query over a range."""

    query: PanelQuery
    span: str
    rows: int
    runs: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Give the median of the runs."""
        return sorted(self.runs)[len(self.runs) // 2]


def board_queries(board: Board) -> Iterator[PanelQuery]:
    """Give the SQL queries of the panels and variables of a board."""
    for panel in board.panels:
        for query in queries_of(panel):
            if isinstance(query, Sql):
                yield PanelQuery(board.uid, f"{panel.title} ({query.ref})", query)
    for variable in board.variables:
        yield PanelQuery(board.uid, f"${variable.name}", variable.query)


def all_queries() -> list[PanelQuery]:
    """Give the queries of all boards, and those of the annotations that they share."""
    queries = [query for board in BOARDS for query in board_queries(board)]
    return queries + [PanelQuery("all", kind, query) for kind, query in annotation_queries()]


def measure(db: psycopg.Connection[Any], end: datetime, repeats: int) -> list[Timing]:
    """Time each query over each range, after one run that is not counted."""
    timings = []
    for span, hours in RANGES.items():
        around = Surroundings(end - timedelta(hours=hours), end)
        chosen = {board.uid: choose(db, board, around, {}) for board in BOARDS}
        for query in all_queries():
            sql = expand(query.sql.text, chosen.get(query.board, around)).encode()
            timing = Timing(query, span, len(db.execute(sql).fetchall()))
            for _ in range(repeats):
                before = time.perf_counter()
                db.execute(sql).fetchall()
                timing.runs.append((time.perf_counter() - before) * 1000)
            timings.append(timing)
    return timings


def opened(query: PanelQuery) -> str | None:
    """Name the range that the board of a query opens with; None for what all boards share."""
    board = BY_UID.get(query.board)
    return None if board is None else f"{OPENED_HOURS[board.since]}h"


def spent(pid: int) -> float:
    """Give the CPU seconds of a backend, with those of workers that its server has waited for."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    server = Path(f"/proc/{stat[1]}/stat").read_text().rpartition(")")[2].split()
    ticks = int(stat[11]) + int(stat[12]) + int(server[13]) + int(server[14])
    return ticks / os.sysconf("SC_CLK_TCK")


def load_of_viewers(
    db: psycopg.Connection[Any], end: datetime, repeats: int
) -> dict[str, dict[str, float]]:
    """Measure what the database spends on a board at the range it opens with, by board.

    Units: CPU milliseconds a refresh; cores for ten viewers who refresh as the board does.
    """
    found = {}
    for board in BOARDS:
        around = Surroundings(end - timedelta(hours=OPENED_HOURS[board.since]), end)
        chosen = choose(db, board, around, {})
        queries = [expand(q.sql.text, chosen).encode() for q in board_queries(board)]
        for sql in queries:
            db.execute(sql).fetchall()
        before = spent(db.info.backend_pid)
        for _ in range(repeats * 4):
            for sql in queries:
                db.execute(sql).fetchall()
        seconds = (spent(db.info.backend_pid) - before) / (repeats * 4)
        every = int(board.refresh.removesuffix("s"))
        found[board.uid] = {
            "cpu_ms": round(1000 * seconds, 1),
            "ten_viewers_cores": round(VIEWERS * seconds / every, 3),
        }
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """Give the percentile by nearest rank."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def stored(db: psycopg.Connection[Any]) -> dict[str, int]:
    """Count the rows of each table."""
    rows = {}
    for base in BIG:
        for suffix in ("1m_by_partition", "1h_rows", "1d_rows"):
            counted = db.execute(f"SELECT count(*) FROM {base}_{suffix}".encode()).fetchone()
            rows[f"{base}_{suffix}"] = int(counted[0]) if counted else 0
    return rows


def report(timings: Sequence[Timing], rows: dict[str, int]) -> dict[str, Any]:
    """Give the results, with the slowest queries."""
    runs = [ms for t in timings for ms in t.runs]
    slow = sorted(timings, key=lambda t: -t.median)
    return {
        "p95_ms": round(percentile(runs, 0.95), 1),
        "limit_ms": P95_MS,
        "p50_ms": round(percentile(runs, 0.5), 1),
        "max_ms": round(max(runs), 1),
        "queries": len({(t.query.board, t.query.name) for t in timings}),
        "p95_ms_by_range": {
            span: round(
                percentile([ms for t in timings if t.span == span for ms in t.runs], 0.95), 1
            )
            for span in RANGES
        },
        "p95_ms_as_opened": round(
            percentile([ms for t in timings if t.span == opened(t.query) for ms in t.runs], 0.95), 1
        ),
        "rows": rows,
        "slowest": [
            {
                "board": t.query.board,
                "query": t.query.name,
                "range": t.span,
                "median_ms": round(t.median, 1),
                "rows": t.rows,
            }
            for t in slow[:15]
        ],
    }


def main(arguments: Sequence[str]) -> int:
    """Measure, write the results, and give 1 when the limit is not kept."""
    parser = argparse.ArgumentParser(prog="python -m bench.panels", description=__doc__)
    parser.add_argument(
        "--database", metavar="URL", help="default: DATABASE_URL, else that of `make services`"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=5,
        metavar="N",
        help="counted runs of each query and range (5)",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE")
    args = parser.parse_args(arguments)
    services = native()
    url = args.database or os.environ.get("DATABASE_URL") or (services and services.database_url)
    if not url:
        print("bench: no database: name one, or run `make services`", file=sys.stderr)
        return 2
    load = os.getloadavg()
    with psycopg.connect(
        url, autocommit=True, options="-c timezone=UTC -c default_transaction_read_only=on"
    ) as db:
        rows = stored(db)
        if not sum(rows.values()):
            print(
                "bench: the database is empty: python -m shopstream history --days 30",
                file=sys.stderr,
            )
            return 2
        timings = measure(db, datetime.now(UTC), args.repeats)
        viewers = load_of_viewers(db, datetime.now(UTC), args.repeats)
    results = report(timings, rows) | {
        "viewers": viewers,
        "machine": machine(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average_before": [round(average, 2) for average in load],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=2) + "\n")
    for query in results["slowest"]:
        figure = f"{query['median_ms']:8.1f} ms  {query['range']:>4}"
        print(f"{figure}  {query['board']}: {query['query']}")
    print(
        f"p95 {results['p95_ms']} ms of {len(timings)} queries and ranges, limit {P95_MS:g} ms;"
        f" written to {args.out}"
    )
    for uid, load_of in viewers.items():
        print(f"{uid}: {load_of['ten_viewers_cores']} cores of the database for ten viewers")
    kept = all(v["ten_viewers_cores"] <= MOST_CORES for v in viewers.values())
    return 0 if kept and results["p95_ms"] <= P95_MS else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
