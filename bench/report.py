"""Turn all runs into one set of figures, and compare it with the floors and other engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.drain import DrainResult, rounded
from bench.peers.recorded import PEERS
from bench.runner import Measurements
from flows.registry import UPSTREAM_FIRST


@dataclass(frozen=True)
class Floor:
    """What must be reached.

    Shape: `path` leads through the results; `most` turns the limit into a ceiling.
    """

    name: str
    path: tuple[str, ...]
    limit: float
    unit: str
    most: bool = False

    def held(self, value: float) -> bool:
        """Tell whether a figure keeps to the limit."""
        return value <= self.limit if self.most else value >= self.limit


FLOORS = (
    Floor("chain", ("chain_eps",), 150_000, "events/s"),
    Floor("clean alone", ("clean_eps",), 200_000, "events/s"),
    Floor("metrics alone", ("metrics_eps",), 0, "events/s"),
    Floor("generator", ("generator_eps",), 150_000, "events/s"),
    Floor("p50 at 1,000/s", ("latency_ms", "1000", "p50"), 250, "ms", most=True),
    Floor("p99 at 1,000/s", ("latency_ms", "1000", "p99"), 250, "ms", most=True),
    Floor("p50 at 16,700/s", ("latency_ms", "16700", "p50"), 250, "ms", most=True),
    Floor("p99 at 16,700/s", ("latency_ms", "16700", "p99"), 250, "ms", most=True),
    Floor("p99 at 50,000/s", ("latency_ms", "50000", "p99"), 250, "ms", most=True),
    *(
        Floor(f"memory of {flow}", ("rss_mib", flow), 500, "MiB", most=True)
        for flow in UPSTREAM_FIRST
    ),
)


def results(measured: Measurements) -> dict[str, Any]:
    """Give the figures of a bench; None where a step was not run.

    Units: speeds are medians, memory is the highest of all runs.
    """
    return {
        "chain_eps": median_speed([d.work_eps for d in measured.chain]),
        "clean_eps": median_speed([d.work_eps for d in measured.clean]),
        "yardstick_eps": median_speed([s.eps for s in measured.spike]),
        "clean_to_yardstick": median_ratio(measured),
        "metrics_eps": median_speed([d.work_eps for d in measured.metrics]),
        "generator_eps": median_speed([f.sending_eps for f in measured.generator]),
        "latency_ms": {
            str(w.rate): {"p50": round(w.latency.p50, 1), "p99": round(w.latency.p99, 1)}
            for w in measured.latency
        },
        "rss_mib": peak_memory(
            [d.rss_mib for d in measured.chain] + [w.rss_mib for w in measured.latency]
        ),
        "from_process_start_eps": {
            "chain": median_speed([d.start_eps for d in measured.chain]),
            "clean": median_speed([d.start_eps for d in measured.clean]),
            "metrics": median_speed([d.start_eps for d in measured.metrics]),
            "generator": median_speed([f.process_eps for f in measured.generator]),
        },
        "cpu_s_per_million": median_cpu(measured.chain),
        "batch_form": {
            "chain_eps": median_speed([d.work_eps for d in measured.batch_chain]),
            "clean_eps": median_speed([d.work_eps for d in measured.batch_clean]),
            "cpu_s_per_million": median_cpu(measured.batch_chain),
        },
        "verified": measured.verified,
        "sweeps": measured.sweeps,
        "runs": {
            "generator": [f.row() for f in measured.generator],
            "clean": [d.row() for d in measured.clean],
            "yardstick": [s.row() for s in measured.spike],
            "metrics": [d.row() for d in measured.metrics],
            "chain": [d.row() for d in measured.chain],
            "batch_form_clean": [d.row() for d in measured.batch_clean],
            "batch_form_chain": [d.row() for d in measured.batch_chain],
            "latency": {str(w.rate): w.row() for w in measured.latency},
        },
    }


def median_speed(speeds: Sequence[float]) -> int | None:
    """Give the median of the runs."""
    return round(median(speeds)) if speeds else None


def median_ratio(measured: Measurements) -> float | None:
    """Give how fast clean is beside the yardstick, each pair on one topic."""
    pairs = list(zip(measured.clean, measured.spike, strict=False))
    return round(median(c.work_eps / s.eps for c, s in pairs), 2) if pairs else None


def peak_memory(runs: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Give the highest figure of each flow over all runs."""
    return {
        flow: max((round(r[flow], 1) for r in runs if flow in r), default=None)
        for flow in UPSTREAM_FIRST
    }


def median_cpu(runs: Sequence[DrainResult]) -> dict[str, float]:
    """Give CPU seconds per million events by process, as medians of the runs."""
    names = runs[0].cpu_s_per_million if runs else {}
    return rounded(
        {name: median([r.cpu_s_per_million.get(name, 0.0) for r in runs]) for name in names}, 2
    )


def value_at(figures: Mapping[str, Any], path: Sequence[str]) -> float | None:
    """Follow a path of keys; None where there is no such figure."""
    value: Any = figures
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def show(figures: Mapping[str, Any], console: Console) -> None:
    """Print the figures with their floors, then other engines as ratios."""
    table = Table("", "measured", "floor", "", box=None)
    for column in (1, 2):
        table.columns[column].justify = "right"
    for floor in FLOORS:
        value = value_at(figures, floor.path)
        if value is not None:
            limit = f"{'under' if floor.most else 'over'} {floor.limit:,.0f}" if floor.limit else ""
            verdict = "" if not floor.limit else "held" if floor.held(value) else "NOT held"
            table.add_row(floor.name, f"{value:,.0f} {floor.unit}", limit, verdict)
    for name in ("chain", "clean"):
        if (speed := figures["batch_form"][f"{name}_eps"]) is not None:
            table.add_row(f"{name}, clean.web in batches", f"{speed:,.0f} events/s", "", "")
    console.print(table)
    if figures["chain_eps"] is not None:
        console.print(peer_table(figures))


def peer_table(figures: Mapping[str, Any]) -> Table:
    """Compare the chain with other engines.

    Their figures are of another run, so a ratio is a hint and no proof.
    """
    table = Table(
        "engine",
        "settings",
        "events/s",
        "chain is",
        box=None,
        title="Others, measured in another run",
    )
    for column in (2, 3):
        table.columns[column].justify = "right"
    for peer in PEERS:
        ratio = figures["chain_eps"] / peer.events_per_second
        table.add_row(peer.engine, peer.settings, f"{peer.events_per_second:,}", f"{ratio:.2f} x")
    return table
