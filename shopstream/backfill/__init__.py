"""A synthetic past in the tables."""
