"""Compare a drained pipeline with its answer key."""
