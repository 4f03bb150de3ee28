"""What an operator types: one file per command, and the packages that commands are made of.

`demo/` and `verify/` are packages, so their command files are `demo_command` and `verify_command`.
`supervise/` belongs to `up`, `backfill/` to `history`; `kafka/` serves several.
"""
