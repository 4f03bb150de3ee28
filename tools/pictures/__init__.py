"""Pictures of the boards from the same queries, so that a person can judge them without Grafana."""
