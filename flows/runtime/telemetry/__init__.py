"""What a flow reports of itself: numbers for Prometheus, a health line, log lines.

`names` is the one list of all numbers. The observers are handed to what they observe, and write to
`instruments` and `logs`; `telemetry` puts them together.
"""
