"""`shopstream pages`: the pages of docs/ that follow from code; a test fails when one drifts."""

from __future__ import annotations

import re
from pathlib import Path

from flows.domain.families import CATALOGUE
from flows.domain.metrics import MetricTable
from flows.domain.rollups import Grain, additive, rolled
from flows.domain.rules import JUDGED_RULES
from flows.domain.web.rules import EVENT_RULES, ITEM_RULES
from flows.runtime.paths import ROOT
from flows.runtime.settings import FIELDS, environment_name
from flows.runtime.telemetry.names import FLOWS, LATENCY_SLO_SECONDS, METRIC_FAMILIES, MetricFamily

HEAD = "<!-- written by `make render` -->\n"


def metrics_page() -> str:
    parts = [
        f"{HEAD}# Metrics\n\nWindows are `[start, start + window)` in UTC by event time. Money is"
        " in minor units and always stands by its currency. Numbers add up over partitions (the"
        " views do that); distinct visitors do not add up over rows.\n"
    ]
    return "\n".join(parts + [metric_section(m) for m in CATALOGUE])


def metric_section(metric: MetricTable) -> str:
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
        f"## gold.{metric.name}: {metric.title}\n\nWindow {seconds} s, counts {metric.scope}s."
        f" Keys: {keys}.{note} By hour and day: {coarse}{without}.\n\n| measure | unit | what it"
        " counts | formula |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def rules_page() -> str:
    rows = [
        f"| {r.name} | {r.dimension} | {r.field} |"
        for r in (*EVENT_RULES, *ITEM_RULES, *JUDGED_RULES)
    ]
    return (
        f"{HEAD}# Rules\n\nA record that breaks one is refused with all that it broke;"
        " `quality.rules_1m` counts how often each was checked and broken.\n\n| rule | dimension |"
        " field |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def settings_page() -> str:
    rows = [
        f"| `{environment_name(name)}` | {'' if field.default is None else field.default} |"
        f" {field.description} |"
        for name, field in FIELDS.items()
    ]
    return (
        f"{HEAD}# Settings\n\nAll come from the environment. A wrong or misspelt one ends the start"
        " with exit code 2 and a line that names it.\n\n| variable | default | what it sets"
        " |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def telemetry_page() -> str:
    return (
        f"{HEAD}# Telemetry\n\nWhat each flow serves at `/metrics` for Prometheus, from the list in"
        " `flows/runtime/telemetry/names.py`. All have the label `flow`; `process_*` (memory, CPU,"
        " files) of the process come on top. The health of the pipeline is here; the shop's"
        f" numbers are in [metrics.md](metrics.md). Latency is held to {LATENCY_SLO_SECONDS:g}"
        " s.\n\n| number | kind | labels | flows | what it says |\n|---|---|---|---|---|\n"
        + "\n".join(map(telemetry_row, METRIC_FAMILIES))
        + "\n\n## Recording rules\n\nIn"
        f" `prometheus/rules/recording.yml`:\n\n{recording_rules()}\n\n## Health\n\n{HEALTH}"
    )


def telemetry_row(number: MetricFamily) -> str:
    flows = "all" if number.flows == FLOWS else ", ".join(number.flows)
    ends = (
        f" Buckets end at {', '.join(f'{end:g}' for end in number.buckets)}."
        if number.buckets
        else ""
    )
    return (
        f"| `{number.name}` | {number.kind} | {', '.join(number.labels)} | {flows} |"
        f" {number.help}{ends} |"
    )


def recording_rules() -> str:
    """The names alone: what they ask is in the file."""
    text = (ROOT / "prometheus" / "rules" / "recording.yml").read_text()
    return "\n".join(
        f"- `{name}`" for name in re.findall(r"^ *- record: (\S+)$", text, re.MULTILINE)
    )


HEALTH = """`/healthz` answers 200 with a line that begins with `ok`, or 503 with the reason:

- `starting, at …`: the flow does not read yet. It gives up after SHOPSTREAM_STARTUP_SECONDS, with exit code 4.
- `no progress for … s at …, while … records wait`: for SHOPSTREAM_STALL_SECONDS nothing has gone through and nothing was
  committed, though records wait. The line names what the flow was last seen at (a step, the flush of a sink, polling).

A flow that has nothing to do is green, however long. Each turn to red or back is a line in the log, and `shopstream_healthy`.
"""


def pages() -> dict[Path, str]:
    docs = ROOT / "docs"
    return {
        docs / "metrics.md": metrics_page(),
        docs / "rules.md": rules_page(),
        docs / "settings.md": settings_page(),
        docs / "telemetry.md": telemetry_page(),
    }


def main() -> None:
    for path, text in pages().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"{path.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
