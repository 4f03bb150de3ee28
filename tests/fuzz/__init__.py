"""Records that nobody would think of, the whole way to rows: `python -m tests.fuzz`."""
