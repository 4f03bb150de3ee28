"""Seeded, open-loop shop traffic with faults, and the answer key that proves what a pipeline made
of it.
"""
