"""How fast the whole road is, on real services that share the machine with it: `make bench`,
explained in README.md.
"""
