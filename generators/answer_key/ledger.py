"""The answer key on disk: what was sent, what must become of it, and the expected rows."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from generators.answer_key.oracle import VIEWS, Oracle, Rows, SentRecord, Terms
from generators.answer_key.verdicts import REJECTED, Verdict
from generators.errors import ConfigError, LedgerError, UnreachableError
from generators.records import Answers, Records

_US = pa.timestamp("us", "UTC")
EVENTS_SCHEMA = pa.schema(
    [
        ("seq", pa.int64()),
        ("event_id", pa.string()),
        ("fault", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("scheduled_at", _US),
        ("sent_at", _US),
        ("event_time", pa.timestamp("ms", "UTC")),
        ("payload_hash", pa.binary()),
        ("expected_outcome", pa.string()),
        ("expected_code", pa.string()),
        ("expected_rules", pa.list_(pa.string())),
    ]
)


class Recorder:
    """Keep what the answer key needs while the run goes on, in columns.

    State: the batches that were sent, and three numbers and a hash per record.
    """

    def __init__(self) -> None:
        self._answers: list[Answers] = []
        self._partition: list[np.ndarray] = []
        self._scheduled: list[np.ndarray] = []
        self._sent_at: list[np.ndarray] = []
        self._hashes: list[list[bytes | None]] = []
        self._stream = sha256()

    def record(
        self, records: Records, first: int, last: int, scheduled_us: np.ndarray, now_us: int
    ) -> None:
        """Remember records [first, last) of a chunk, in calls that go from its start to its end."""
        if records.answers is None:
            raise LedgerError("records without answers cannot be written to a ledger")
        if first == 0:
            self._answers.append(records.answers)
            self._hashes.append([])
        self._partition.append(records.partition[first:last])
        self._scheduled.append(scheduled_us)
        self._sent_at.append(np.full(last - first, now_us))
        hashes = self._hashes[-1]
        for value in records.values[first:last]:
            hashes.append(None if value is None else blake2b(value, digest_size=16).digest())
            self._stream.update(b"\xff" if value is None else len(value).to_bytes(4, "big") + value)

    @property
    def payload_sha256(self) -> str:
        """Give the hash over all values, each behind its length."""
        return self._stream.hexdigest()

    def write(self, folder: Path, offsets: np.ndarray, terms: Terms) -> Counter[str]:
        """Judge everything again, and write events and gold rows.

        Errors: LedgerError, UnreachableError.
        """
        missing = int((offsets < 0).sum())
        if missing:
            raise UnreachableError(f"{missing} records have no delivery report")
        (folder / "gold").mkdir(parents=True, exist_ok=True)
        oracle = Oracle(terms)
        counts: Counter[str] = Counter()
        with pq.ParquetWriter(
            folder / "events.parquet", EVENTS_SCHEMA, compression="zstd"
        ) as writer:
            for table in self._tables(offsets, oracle, counts):
                writer.write_table(table)
        write_gold(folder / "gold", oracle.rows())
        return counts

    def _tables(
        self, offsets: np.ndarray, oracle: Oracle, counts: Counter[str]
    ) -> Iterator[pa.Table]:
        empty = [np.zeros(0, dtype=np.int64)]
        partition = np.concatenate(self._partition or empty)
        scheduled = np.concatenate(self._scheduled or empty)
        sent_at = np.concatenate(self._sent_at or empty)
        first = 0
        for answers, hashes in zip(self._answers, self._hashes, strict=True):
            rows = list(answers.rows())
            last = first + len(rows)
            places = zip(partition[first:last].tolist(), offsets[first:last].tolist(), strict=True)
            for (number, offset), (event, _, verdict), payload_hash in zip(
                places, rows, hashes, strict=True
            ):
                oracle.take(SentRecord(number, offset, event, payload_hash, verdict))
                counts[_count_name(verdict)] += 1
            yield pa.table(
                [
                    np.arange(first, last),
                    [event and event["event_id"] for event, _, _ in rows],
                    [fault for _, fault, _ in rows],
                    pa.array(partition[first:last], pa.int32()),
                    offsets[first:last],
                    pa.array(scheduled[first:last]).cast(_US),
                    pa.array(sent_at[first:last]).cast(_US),
                    pa.array(
                        [event and event["event_time"] for event, _, _ in rows], pa.int64()
                    ).cast(pa.timestamp("ms", "UTC")),
                    pa.array(hashes, pa.binary()),
                    [verdict.outcome for _, _, verdict in rows],
                    [verdict.code for _, _, verdict in rows],
                    pa.array([verdict.rules for _, _, verdict in rows], pa.list_(pa.string())),
                ],
                schema=EVENTS_SCHEMA,
            )
            first = last


def _count_name(verdict: Verdict) -> str:
    return f"{REJECTED} {verdict.code}" if verdict.outcome == REJECTED else verdict.outcome


def write_gold(folder: Path, rows: Rows) -> None:
    """Write the expected rows of each view, sorted by key.

    Shape: keys and values named as in VIEWS.
    """
    for view, (keys, values) in VIEWS.items():
        sorted_rows = sorted(rows[view].items(), key=lambda item: tuple(map(str, item[0])))
        columns: dict[str, Any] = {}
        for n, name in enumerate(keys):
            columns[name] = pa.array(
                [key[n] for key, _ in sorted_rows], _US if name == "window_start" else pa.string()
            )
        for n, name in enumerate(values):
            columns[name] = pa.array([row[n] for _, row in sorted_rows], pa.int64())
        pq.write_table(pa.table(columns), folder / f"{view}.parquet", compression="zstd")


def claim(folder: Path | None) -> None:
    """Take a folder for a ledger before anything is sent.

    Errors: ConfigError when it holds a ledger already or cannot be made.
    """
    if folder is None:
        return
    if (folder / "manifest.json").exists():
        raise ConfigError(f"ledger {folder}: holds a ledger already")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"ledger {folder}: {error.strerror}") from error


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write what the run was, after everything else: a ledger with a manifest is complete."""
    text = json.dumps({**facts, "git_commit": _commit()}, indent=2, default=str)
    (folder / "manifest.json").write_text(text + "\n")


def _commit() -> str | None:
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).resolve().parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
