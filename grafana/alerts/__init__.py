"""Alerts as data: rules in three groups, and who is told. `render` gives the files that Grafana and
Prometheus read.
"""

from grafana.alerts.files import GROUPS, render

__all__ = ["GROUPS", "render"]
