"""What people look at: dashboards and alerts as data, rendered to the files of Grafana.

A reader's way: `panels.py` and `queries.py` (what a panel is), `boards/` (which there are),
`alerts/`, `ranges.py` (which table a range reads), `to_grafana.py` and `dashboard.py` (Grafana's
JSON), `macros.py` (what Grafana makes of a query). `python -m grafana render` writes the files.
"""
