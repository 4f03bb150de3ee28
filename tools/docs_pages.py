"""`python -m tools.docs_pages`: write the pages of docs/ that follow from code."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flows.domain.families import CATALOGUE, RULES
from flows.domain.metrics import MetricTable
from flows.domain.rollups import Grain, additive, rolled
from flows.runtime.paths import ROOT
from flows.runtime.settings import FIELDS, environment_name
from flows.runtime.telemetry.names import FLOWS, LATENCY_SLO_SECONDS, METRIC_FAMILIES, MetricFamily
from tools.environment_example import environment_example

HEAD = "<!-- written by `make render` -->\n"


def pages() -> dict[Path, str]:
    """Write the text of every page."""
    docs = ROOT / "docs"
    return {
        docs / "metrics.md": _metrics(),
        docs / "rules.md": _rules(),
        docs / "settings.md": _settings(),
        docs / "telemetry.md": _telemetry(),
        docs / "guarantees.md": _guarantees((docs / "guarantees.md").read_text()),
        docs / "runbook.md": _runbook((docs / "runbook.md").read_text()),
        ROOT / ".env.example": environment_example(),
    }


def _guarantees(page: str) -> str:
    """Put the outcomes of the drills between their marks."""
    known = _results("drills")
    if known is None:
        return page
    rows = (
        f"| `{name}` | {o['about']} | {'passed' if o['passed'] else 'FAILED'} | {o['seed']} |"
        for name, o in known.items()
    )
    return _between(page, "drills", _table(("drill", "what it does", "last outcome", "seed"), rows))


def _runbook(page: str) -> str:
    """Put what the simulation of alarms found between its marks."""
    known = _results("alarms")
    if known is None:
        return page
    wrong = (
        f"| {rule} | {' | '.join(str(len(times)) for times in by_shop.values())} |"
        for rule, by_shop in known["false_alarms"].items()
    )
    found = (
        f"| {f['rule']} | the {f['shop']} shop: {f['what']} | {_span(f['found_minutes'])} |"
        f" {_span(f['within_minutes'])} |"
        for f in known["faults"]
    )
    shops = next(iter(known["false_alarms"].values()))
    return _between(
        page,
        "alarms",
        _table((f"false alarms in {known['days']} days", *shops), wrong)
        + "\n\n"
        + _table(("alert", "what breaks at noon", "fires after", "promised"), found),
    )


def _span(minutes: float | None) -> str:
    if minutes is None:
        return "NOT FOUND"
    return (
        f"{int(minutes // 60)} h {int(minutes % 60)} min" if minutes >= 60 else f"{minutes:g} min"
    )


def _results(name: str) -> Any:
    """Read results; a copy without them keeps what its pages say."""
    path = ROOT / "bench" / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _between(page: str, name: str, text: str) -> str:
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n{text}\n\n{end}{rest.partition(end)[2]}"


def _table(columns: Sequence[str], rows: Iterable[str]) -> str:
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    return head + "\n".join(rows)


def _metrics() -> str:
    parts = [
        f"{HEAD}# Metrics\n"
        "\n"
        "Windows are `[start, start + window)` in UTC by event time. Money is in minor units and"
        " always stands by its currency. Numbers add up over partitions (the views do that);"
        " distinct visitors do not add up over rows.\n"
    ]
    return "\n".join(parts + [_metric(metric) for metric in CATALOGUE])


def _metric(metric: MetricTable) -> str:
    keys = ", ".join(("window_start", *(d.name for d in metric.by)))
    capped = [d.name for d in metric.by if d.cap]
    note = (
        f" Past SHOPSTREAM_QUERY_CAP different values of {capped[0]} the rest is `(other)`."
        if capped
        else ""
    )
    rows = [
        f"| {m.name} | {m.unit} | {m.help} |" + (f" `{m.formula}` |" if m.formula else " |")
        for m in metric.measures
    ]
    coarse = " and ".join(
        f"`gold.{rolled(metric, grain).name}`" for grain in (Grain.HOUR, Grain.DAY)
    )
    lost = [m.name for m in metric.measures if m not in additive(metric)]
    without = f" without {', '.join(lost)}" if lost else ""
    seconds = int(metric.window.total_seconds())
    return (
        f"## gold.{metric.name}: {metric.title}\n"
        "\n"
        f"Window {seconds} s, counts {metric.scope}s. Keys: {keys}.{note}"
        f" By hour and day: {coarse}{without}.\n"
        "\n" + _table(("measure", "unit", "what it counts", "formula"), rows) + "\n"
    )


def _rules() -> str:
    rows = [f"| {r.name} | {r.dimension} | {r.field} |" for r in RULES.values()]
    return (
        f"{HEAD}# Rules\n"
        "\n"
        "A record that breaks one is refused with all that it broke; `quality.rules_1m` counts how"
        " often each was checked and broken.\n"
        "\n" + _table(("rule", "dimension", "field"), rows) + "\n"
    )


def _settings() -> str:
    rows = [
        f"| `{environment_name(name)}` | {'' if field.default is None else field.default} |"
        f" {field.description} |"
        for name, field in FIELDS.items()
    ]
    return (
        f"{HEAD}# Settings\n"
        "\n"
        "All come from the environment. A wrong or misspelt one ends the start with exit code 2 and"
        " a line that names it.\n"
        "\n" + _table(("variable", "default", "what it sets"), rows) + "\n"
    )


def _telemetry() -> str:
    columns = ("number", "kind", "labels", "flows", "what it says")
    return (
        f"{HEAD}# Telemetry\n"
        "\n"
        "What each flow serves at `/metrics` for Prometheus, from the list in"
        " `flows/runtime/telemetry/names.py`. All have the label `flow`; `process_*` (memory, CPU,"
        " files) of the process come on top. The health of the pipeline is here; the shop's"
        f" numbers are in [metrics.md](metrics.md). Latency is held to {LATENCY_SLO_SECONDS:g} s.\n"
        "\n" + _table(columns, map(_telemetry_row, METRIC_FAMILIES)) + "\n"
        "\n"
        "## Recording rules\n"
        "\n"
        "In `prometheus/rules/recording.yml`:\n"
        "\n"
        f"{_recording_rules()}\n"
        "\n"
        "## Health\n"
        "\n"
        f"{HEALTH}"
    )


def _telemetry_row(family: MetricFamily) -> str:
    flows = "all" if family.flows == FLOWS else ", ".join(family.flows)
    ends = ", ".join(f"{end:g}" for end in family.buckets)
    buckets = f" Buckets end at {ends}." if ends else ""
    return (
        f"| `{family.name}` | {family.kind} | {', '.join(family.labels)} | {flows} |"
        f" {family.help}{buckets} |"
    )


def _recording_rules() -> str:
    # the names alone: what they compute is in the file
    text = (ROOT / "prometheus" / "rules" / "recording.yml").read_text()
    names = re.findall(r"^ *- record: (\S+)$", text, re.MULTILINE)
    return "\n".join(f"- `{name}`" for name in names)


HEALTH = """`/healthz` answers 200 with a line that begins with `ok`, or 503 with the reason:

- `starting, at …`: the flow does not read yet. It gives up after SHOPSTREAM_STARTUP_SECONDS, with
  exit code 4.
- `no progress for … s at …, while … records wait`: for SHOPSTREAM_STALL_SECONDS nothing has gone
  through and nothing was committed, though records wait. The line names what the flow was last seen
  at (a step, the flush of a sink, polling).

A flow that has nothing to do is green, however long. Each turn to red or back is a line in the log,
and `shopstream_healthy`.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command and give its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs_pages", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where a page differs"
    )
    check = parser.parse_args(arguments).check
    texts = pages()
    changed = [path for path, text in texts.items() if _differs(path, text)]
    for path in changed:
        if not check:
            path.write_text(texts[path])
        print(f"{path.relative_to(ROOT)}: {'differs' if check else 'written'}")
    return 1 if check and changed else 0


def _differs(path: Path, text: str) -> bool:
    return not path.exists() or path.read_text() != text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
