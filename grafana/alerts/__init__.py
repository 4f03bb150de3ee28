"""Alerts as data: rules in three groups, and who hears of them.

`render` writes the files that Grafana and Prometheus read.
"""

from grafana.alerts.files import GROUPS, render

__all__ = ["GROUPS", "render"]
