"""Synthetic history: rows of past days as flows would have counted them, and their removal."""
