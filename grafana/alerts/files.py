"""The files of alerting: those that Grafana reads at start, and the rules for Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from grafana.alerts import notifying, prometheus, rendering
from grafana.alerts.business import BUSINESS
from grafana.alerts.pipeline import PIPELINE
from grafana.alerts.quality import QUALITY
from grafana.uids import PROVISIONING

HEAD = "# written by `python -m grafana render`\n"
GROUPS = (BUSINESS, QUALITY, PIPELINE)
ALERTING = PROVISIONING / "alerting"
PROMETHEUS_RULES = PROVISIONING.parents[1] / "prometheus" / "rules" / "alerts.yml"


class _Dumper(yaml.SafeDumper):
    """Write SQL as a block, and a list that occurs twice in full both times."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, "|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _dump(content: dict[str, Any]) -> str:
    return HEAD + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=130, allow_unicode=True)


def render() -> dict[Path, str]:
    """Write the text of every file.

    Errors: LookupError when an alert refers to a panel that no board has.
    """
    contents = {
        **{f"rules-{group.name}.yaml": rendering.group_file(group) for group in GROUPS},
        "contact-points.yaml": notifying.contact_points(),
        "mute-timings.yaml": notifying.mute_timings(),
        "policies.yaml": notifying.policies(),
        "templates.yaml": notifying.templates(),
    }
    files = {ALERTING / name: _dump(content) for name, content in contents.items()}
    return files | {PROMETHEUS_RULES: _dump(prometheus.rules_file(GROUPS))}
