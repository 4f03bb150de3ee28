"""Seeded, open-loop shop traffic with faults, and the answer key of what must become of it."""
