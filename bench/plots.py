"""`python -m bench.plots`: draw the sweeps of `bench/results/sweeps.json` into `docs/pictures/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.sweeps import FLAT_MS, FRESH_MS
from flows.runtime.paths import ROOT

RESULTS = Path(__file__).parent / "results" / "sweeps.json"
PICTURES = ROOT / "docs" / "pictures"
INCHES, DPI = (7.0, 3.2), 120


def draw_find_max(axes: Axes, sweep: dict[str, Any]) -> None:
    """Draw p50 and p99 of each rate that was tried."""
    trials = sorted(sweep["trials"], key=lambda trial: trial["rate"])
    rates = [trial["rate"] for trial in trials]
    for name in ("p50", "p99"):
        axes.plot(rates, [trial[name] for trial in trials], marker="o", label=name)
    for trial in trials:
        if not trial["flat"]:
            axes.axvspan(trial["rate"] * 0.97, trial["rate"] * 1.03, color="tab:red", alpha=0.15)
    axes.set(xscale="log", yscale="log", xlabel="events/s", ylabel="ms until visible")
    axes.set_xticks(rates, [f"{rate:,}" for rate in rates], rotation=20)
    axes.minorticks_off()
    axes.set_title(
        f"Latency by rate, each held for {sweep['hold_seconds']:.0f} s; red: grew by more than"
        f" {FLAT_MS:.0f} ms",
        fontsize=9,
    )
    axes.legend()


def draw_cardinality(axes: Axes, sweep: dict[str, Any]) -> None:
    """Draw the CPU per event of each number of visitors and products, by process."""
    points = sweep["points"]
    names = [f"{p['visitors']:,} visitors\n{p['products']:,} products" for p in points]
    bottom = [0.0] * len(points)
    for process in ("clean", "metrics", "quality", "deadletters", "broker", "postgres"):
        seconds = [p["cpu_s_per_million"].get(process, 0.0) for p in points]
        axes.bar(names, seconds, bottom=bottom, label=process)
        bottom = [below + own for below, own in zip(bottom, seconds, strict=True)]
    axes.set_ylabel("CPU s per million events")
    axes.set_title("What an event costs, by how many keys there are", fontsize=9)
    axes.legend(fontsize=7)


def draw_restart(axes: Axes, sweep: dict[str, Any]) -> None:
    """Draw the latency of the events of each second around the kill."""
    seconds, latency = zip(*sweep["latency_by_second"], strict=True)
    axes.plot(seconds, latency, marker=".")
    axes.axvline(0, color="tab:red", label="SIGKILL of all flows")
    axes.axhline(FRESH_MS, color="grey", linestyle=":", label=f"{FRESH_MS:.0f} ms")
    axes.set(yscale="log", xlabel="when an event was due, s from the kill", ylabel="ms (median)")
    axes.set_title(
        f"A crash at {sweep['rate']:,} events/s: caught up after {sweep['caught_up_seconds']} s",
        fontsize=9,
    )
    axes.legend()


DRAWN = {"find-max": draw_find_max, "cardinality": draw_cardinality, "restart": draw_restart}


def main() -> None:
    """Draw every sweep that the results have."""
    mpl.use("agg")
    sweeps = json.loads(RESULTS.read_text())["sweeps"]
    for name, draw in DRAWN.items():
        if name in sweeps:
            figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
            draw(figure.subplots(), sweeps[name])
            path = PICTURES / f"bench-{name}.png"
            # without the version of matplotlib the same figures give the same file
            figure.savefig(path, metadata={"Software": None})
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
