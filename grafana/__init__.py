"""What people look at: dashboards as data, rendered to the files that Grafana provisions. See
grafana/__main__.py.
"""
