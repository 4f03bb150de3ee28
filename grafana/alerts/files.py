"""The files of alerting, as text: those that Grafana reads at start, and the rules for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from grafana.alerts import notifying, prometheus, rendering
from grafana.alerts.business import BUSINESS
from grafana.alerts.panels import among, checked_in
from grafana.alerts.pipeline import PIPELINE
from grafana.alerts.quality import QUALITY
from grafana.uids import PROVISIONING

HEAD = "# written by `python -m grafana render`\n"
GROUPS = (BUSINESS, QUALITY, PIPELINE)
ALERTING = PROVISIONING / "alerting"
PROMETHEUS_RULES = PROVISIONING.parents[1] / "prometheus" / "rules" / "alerts.yml"


class Dumper(yaml.SafeDumper):
    """SQL as a block, and the same list written out each time."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def text_of(dumper: Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, "|" if "\n" in text else None)


Dumper.add_representer(str, text_of)


def dump(content: dict[str, Any]) -> str:
    return HEAD + yaml.dump(content, Dumper=Dumper, sort_keys=False, width=130, allow_unicode=True)


def render(boards: Mapping[Path, str] | None = None) -> dict[Path, str]:
    """Every file and its text; panels are found on `boards`, or on those in the checkout.

    Errors: LookupError when an alert points to a panel that is not there.
    """
    panel = among(checked_in() if boards is None else boards)
    rules = {f"rules-{g.name}.yaml": rendering.group(g, panel) for g in GROUPS}
    notices = {
        "contact-points.yaml": notifying.contact_points(),
        "mute-timings.yaml": notifying.mute_timings(),
        "policies.yaml": notifying.policies(),
        "templates.yaml": notifying.templates(),
    }
    found = {ALERTING / name: dump(content) for name, content in (rules | notices).items()}
    return found | {PROMETHEUS_RULES: dump(prometheus.groups(GROUPS))}
