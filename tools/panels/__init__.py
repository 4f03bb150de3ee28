"""What a person sees on panels: their queries' answers as frames, and Grafana's own code on them.

`frames.py` runs the queries, `fields.js` is what Grafana does with frames, `judge.js` says it in
words for the tests.
"""
