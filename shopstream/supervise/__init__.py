"""Keep the flows running: processes, their ports, their logs, and what the dashboards hear."""
