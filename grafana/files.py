"""The files that Grafana reads at start: datasources, dashboards, alerts.

Datasources and the dashboards' provider are written as text, so that they are short and give their
reasons.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from grafana import alerts, uids
from grafana.boards import ALL, TITLES
from grafana.dashboard import rendered
from grafana.uids import PROVISIONING

HEAD = "# written by `python -m grafana render`\n"

DATASOURCES = f"""{HEAD}# Grafana expands $__file and $__env here, and once more in what they hold:
# secrets have no dollar sign in them.
# A uid is for ever. Without deleteDatasources: it breaks the alerts that use one.
apiVersion: 1
prune: true
datasources:
  - name: {uids.TIMESCALE}
    uid: {uids.TIMESCALE}
    type: {uids.TIMESCALE_TYPE}
    access: proxy
    url: $__env{{GRAFANA_DB_HOST}}
    user: $__env{{GRAFANA_DB_USER}}
    isDefault: true
    editable: false
    jsonData:
      database: $__env{{GRAFANA_DB_NAME}}
      sslmode: $__env{{GRAFANA_DB_SSLMODE}}
      postgresVersion: 1700
      # true on plain PostgreSQL too: migrations make a time_bucket there
      timescaledb: true
      timeInterval: 1m
      maxOpenConns: 10
      maxIdleConns: 4
      connMaxLifetime: 14400
    secureJsonData:
      password: $__file{{/run/secrets/grafana_db_password}}
  - name: {uids.PROMETHEUS}
    uid: {uids.PROMETHEUS}
    type: {uids.PROMETHEUS_TYPE}
    access: proxy
    url: $__env{{GRAFANA_PROMETHEUS_URL}}
    editable: false
    jsonData:
      httpMethod: POST
      # as often as prometheus/prometheus.yml scrapes: the least that a rate looks back is four \
of it
      timeInterval: 5s
      prometheusType: Prometheus
"""

PROVIDER = f"""{HEAD}# Dashboards come from files alone: what is changed in Grafana is overwritten.
apiVersion: 1
providers:
  - name: {uids.FOLDER}
    orgId: 1
    folder: {uids.FOLDER}
    folderUid: {uids.FOLDER_UID}
    type: file
    disableDeletion: false
    allowUiUpdates: false
    updateIntervalSeconds: 30
    options:
      path: {uids.PROVISIONING_IN_GRAFANA}/dashboards
"""


def render() -> dict[Path, str]:
    """Write the text of every file; Prometheus' alert rules are among them.

    Errors: LookupError when an alert refers to a panel that no board has.
    """
    dashboards = PROVISIONING / "dashboards"
    files = {
        PROVISIONING / "datasources" / "shopstream.yaml": DATASOURCES,
        dashboards / "shopstream.yaml": PROVIDER,
        **{dashboards / f"{board.uid}.json": rendered(board, TITLES) for board in ALL},
    }
    return files | alerts.render()


def orphans(files: Iterable[Path]) -> list[Path]:
    """List what lies in the folders of Grafana and is not rendered any more."""
    present = {p for p in PROVISIONING.glob("*/*") if p.is_file()}
    return sorted(present - set(files))
