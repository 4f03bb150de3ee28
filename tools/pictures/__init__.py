"""Pictures of boards, drawn by Grafana's own components in a headless browser."""
