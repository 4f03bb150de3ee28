"""Healthy events: what shoppers do in a shop."""
