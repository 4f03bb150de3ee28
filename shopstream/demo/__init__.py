"""The whole way once, on services that are there or embedded ones."""
