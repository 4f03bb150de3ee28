"""Figures of other engines with a similar job, measured in another run on a similar machine.

The job: 118-byte web events from Kafka, decode, validate, drop repeated ids, two one-minute
aggregates, upsert into PostgreSQL; every result row compared with an oracle. Events/s from the
first record to the last committed row.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """The figures of one engine.

    Units: `cpu_s_per_million` is the engine's own, without broker and database.
    """

    engine: str
    settings: str
    events_per_second: int
    cpu_s_per_million: float
    peak_mib: int
    runs: int


PEERS = (
    Peer(
        "Flink SQL 1.20.3",
        "heap state, checkpoints every 10 s, 3 M events",
        147_000,
        16.6,
        2_362,
        3,
    ),
    Peer(
        "Flink SQL 1.20.3", "heap state, checkpoints every 1 s, 3 M events", 119_000, 19.7, 2_402, 3
    ),
    Peer(
        "Flink SQL 1.20.3",
        "heap state of 8 GB, checkpoints every 10 s, 9 M events",
        160_000,
        13.2,
        4_843,
        2,
    ),
    Peer(
        "Flink SQL 1.20.3",
        "heap state of 8 GB, checkpoints every 1 s, 9 M events",
        130_000,
        15.9,
        4_637,
        1,
    ),
    Peer(
        "Flink SQL 2.2.0",
        "heap state, checkpoints every 10 s, mini-batch on, 3 M events",
        128_000,
        19.4,
        2_421,
        1,
    ),
    Peer(
        "Spark 4.0.0", "heap store, 500,000 records a trigger, 3 M events", 87_000, 23.7, 3_097, 3
    ),
    Peer(
        "Spark 4.0.0",
        "RocksDB store, 500,000 records a trigger, 3 M events",
        64_000,
        31.3,
        3_248,
        1,
    ),
    Peer(
        "Bytewax 0.21.1, row by row",
        "1 process, recovery every 1 s, 600,000 events",
        24_400,
        40.9,
        334,
        1,
    ),
    Peer(
        "Quix Streams 3.28.1",
        "2 processes, changelogs, commit every 1 s, 300,000 events",
        12_300,
        122.0,
        626,
        3,
    ),
)
