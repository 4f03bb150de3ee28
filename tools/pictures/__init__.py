"""Pictures of the boards from the same queries, so that a person can judge them without Grafana.

A reader's way: `data.py` (queries to data), `canvas.py` and `theme.py` (paper and colours),
`view.py` (a panel with its data), `draw.py` and `charts.py` (a drawing per look), `page.py` (a
board).
"""
