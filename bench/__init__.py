"""How fast the whole pipeline is, on real services on the same machine: see README.md."""
