"""All the way of a record, from the raw topic to rows, without broker and database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from flows.connectors.avro import encode, schemas
from flows.connectors.avro.decode import Decoder
from flows.connectors.avro.encode import CleanEncoder
from flows.connectors.avro.readers import CleanReader, DeadLetterReader, tally_reader
from flows.connectors.records import AnyRecords
from flows.domain.batch import Batch, Origin
from flows.domain.budget import RejectBudget
from flows.domain.checkpoint import Checkpoint
from flows.domain.cleaning import Cleaned, Cleaning
from flows.domain.codes import VERDICTS
from flows.domain.counting import Counting, Windowing
from flows.domain.dead_letters import RefusedEvents
from flows.domain.judge import Limits
from flows.domain.tables import GOLD
from flows.domain.web import WEB
from tests.support import plain_oracle as oracle
from tests.support.batches import batch_of_log
from tests.support.plain_oracle import Stored
from tests.support.web_events import LETTER

RAW = Origin("clean", "raw.web")
Gold = dict[str, dict[tuple[Any, ...], dict[str, int]]]


def batch_of(log: Sequence[Stored]) -> Batch:
    """Make the batch of a poll, partition by partition."""
    return batch_of_log(sorted(log, key=lambda r: r.partition))


def values_of(records: AnyRecords) -> list[bytes]:
    """List the values of records to send."""
    return [message["value"] for messages in records.messages.values() for message in messages]


class Road:
    """Clean, metrics, deadletters and quality in a row.

    State: theirs; `outcomes` by code, `gold` as the database would have it.
    """

    def __init__(
        self,
        limits: oracle.Limits,
        partitions: Iterable[int],
        cap: int = 100,
        kernels: bool = True,
    ) -> None:
        lateness = timedelta(milliseconds=limits.lateness)
        tolerance = timedelta(milliseconds=limits.tolerance)
        self.decoder = Decoder(WEB, schemas.ConfluentIds(None), limits.max_bytes, kernels)
        self.cleaning = Cleaning(WEB, Limits(lateness, tolerance), RejectBudget(2.0, 10), kernels)
        self.counting = Counting(WEB, RAW, Windowing(lateness, cap, kernels))
        for p in partitions:
            self.cleaning.restore(p, Checkpoint(0, 0))
            self.counting.restore(p, Checkpoint(0, 0))
        self.clean_reader = CleanReader(WEB, kernels)
        self.letter_reader = DeadLetterReader(Origin("deadletters", "dead.letters"))
        self.tally_reader = tally_reader()
        self.encoder, self.refused = CleanEncoder(WEB), RefusedEvents(WEB, RAW)
        self.tallies = encode.TallyRecords(self.cleaning.tallies, RAW)
        self.outcomes: Counter[str] = Counter()
        self.gold: Gold = {metric: {} for metric in GOLD}

    def drive(self, log: Sequence[Stored]) -> list[tuple[Stored, tuple[str, str]]]:
        """Take records all the way; gives each with its outcome and code, in the batch's order."""
        batch = batch_of(log)
        decoded = self.decoder.decode(batch)
        unreadable = {row for row, _, _ in decoded.refused}
        assert sorted([*unreadable, *decoded.events["row"].to_list()]) == list(range(len(log)))
        cleaned = self.cleaning.clean(decoded)
        self._store(log, cleaned)
        records = sorted(log, key=lambda r: r.partition)
        verdicts = [VERDICTS[v] for v in cleaned.judged.verdict.tolist()]
        self.outcomes += Counter(code or str(outcome) for outcome, code in verdicts)
        return [
            (record, (str(outcome), str(code or "")))
            for record, (outcome, code) in zip(records, verdicts, strict=True)
        ]

    def _store(self, log: Sequence[Stored], cleaned: Cleaned) -> None:
        values = cleaned.judged.batch.payload.to_pylist()
        verdict = cleaned.judged.verdict
        accepted = self.encoder.one_event_per_record(cleaned)
        dead = values_of(encode.dead_letters(self.refused.dead_letters(cleaned)))
        repeated = int((verdict == 1).sum())
        assert len(values_of(accepted)) + len(dead) + repeated == len(log)
        refused = [letter["payload"] for letter in map(LETTER.read, dead)]
        assert refused == [values[row] for row in np.flatnonzero(verdict > 1)]
        clean = [
            Stored(p, message_offset, 0, message["value"])
            for p, messages in accepted.messages.items()
            for message_offset, message in enumerate(messages)
        ]
        if clean:
            read = self.counting.admit(self.clean_reader.read(batch_of(clean)))
            assert not read.refused
            self.counting.count(read)
        letters = self.letter_reader.read(
            batch_of([Stored(0, i, 0, v) for i, v in enumerate(dead)])
        )
        tallies = values_of(self.tallies.take())
        counts = self.tally_reader.read(
            batch_of([Stored(0, i, 0, v) for i, v in enumerate(tallies)])
        )
        assert not letters.refused
        assert not counts.refused
        for rows in (*self.counting.take(), *letters.rows, *counts.rows):
            frame = rows.frame
            for row in frame.iter_rows():
                assert not any(isinstance(cell, str) and "\0" in cell for cell in row)
            self._upsert(rows.table.name, frame.iter_rows(named=True))

    def _upsert(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        for metric, table in GOLD.items():
            if table.name == name:
                for row in rows:
                    time, *rest = (row[k] for k in table.keys)
                    measures = {c: n for c, n in row.items() if c not in table.keys and n}
                    self.gold[metric][int(time.timestamp() * 1000), *rest] = measures
