"""Names that panels, alerts and provisioning files share.

A uid must not change: links, alerts and bookmarks refer to it.
"""

from __future__ import annotations

from pathlib import Path

PROVISIONING = Path(__file__).parent / "provisioning"

TIMESCALE = "shopstream-timescale"
TIMESCALE_TYPE = "grafana-postgresql-datasource"
PROMETHEUS = "shopstream-prometheus"
PROMETHEUS_TYPE = "prometheus"

FOLDER, FOLDER_UID = "shopstream", "shopstream"
ALERT_FOLDER = "shopstream alerts"
TAG = "shopstream"

LIVE = "shopstream-live"
PRODUCTS = "shopstream-products"
QUALITY = "shopstream-quality"
DEAD_LETTERS = "shopstream-letters"
PIPELINE = "shopstream-pipeline"
SHOPS = "shopstream-shops"
RUNBOOK_BOARD = "shopstream-runbook"

# as Grafana in its container sees it: compose mounts grafana/provisioning here
PROVISIONING_IN_GRAFANA = "/etc/grafana/provisioning"
RUNBOOK = "docs/runbook.md"
