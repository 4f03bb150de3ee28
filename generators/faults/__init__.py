"""Records that something is wrong with, beside the healthy ones."""
