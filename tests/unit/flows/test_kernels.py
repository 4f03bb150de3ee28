"""Compiled kernels and their references give the same answers, byte by byte."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.connectors.avro.columns import ColumnReader, Unsupported
from flows.connectors.avro.decode import Decoder
from flows.connectors.avro.readers import CleanReader
from flows.connectors.avro.schemas import ConfluentIds, Schema
from flows.connectors.starts import LeaderEpochs
from flows.domain.kernels.avro import is_utf8
from flows.domain.kernels.hashing import hash_texts
from flows.domain.kernels.slots import SlotTable
from flows.domain.packed import Texts
from flows.domain.web import WEB
from flows.runtime.paths import ROOT
from tests.fuzz.logs import LIMITS, PARTITIONS, log_of
from tests.fuzz.road import Road, batch_of
from tests.support.batches import batch_of as batch_of_values
from tests.support.web_events import CLEAN, CLEAN_BATCH, NOON, event

SOURCE = {
    "source_partition": 0,
    "source_timestamp": NOON,
    "source_incarnation": 0,
    "accepted": 1,
}
# of the text "shopstream"
PINNED = (11660339707225451535, 4700800644458760192)


@given(st.binary(max_size=9) | st.text(max_size=4).map(str.encode))
def test_utf8_is_what_python_takes_for_it(data: bytes) -> None:
    def decodes() -> bool:
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
        return True

    memory = np.frombuffer(data or b"\0", np.uint8)
    assert is_utf8(memory, 0, len(data)) == decodes()


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)))
def test_texts_have_equal_hashes_only_if_they_are_equal(texts: list[str | None]) -> None:
    column = Texts(pl.Series(texts, dtype=pl.String))
    hashes = {tuple(pair) for pair in column.hashes.tolist()}
    assert len(hashes) == len(set(texts))


def test_the_same_text_has_the_same_hash_in_every_process() -> None:
    # rows are written in the order of their hashes: two processes must agree on it
    hashes = np.empty((1, 2), np.uint64)
    data = np.frombuffer(b"shopstream", np.uint8)
    hash_texts(np.array([0, len(data)]), data, hashes)
    assert tuple(hashes[0].tolist()) == PINNED


@given(st.lists(st.lists(st.integers(0, 30), max_size=20), max_size=8))
def test_slots_are_numbered_in_the_order_of_their_keys(batches: list[list[int]]) -> None:
    table = SlotTable(8)
    known: dict[int, int] = {}
    for batch in batches:
        keys = np.array([(n % 3, n) for n in batch], np.uint64).reshape(-1, 2)
        while len(table) + len(keys) > table.max:
            table = table.resize(table.max * 2)
        before = len(table)
        slots = table.add(keys)
        firsts = [i for i, n in enumerate(batch) if n not in known and n not in batch[:i]]
        assert table.fresh(slots, before).tolist() == firsts
        for n in batch:
            known.setdefault(n, len(known))
        assert slots.tolist() == [known[n] for n in batch]
        assert table.get(keys).tolist() == slots.tolist()
    assert table.get(np.array([(9, 99)], np.uint64)).tolist() == [-1]


@pytest.mark.parametrize("seed", range(3))
def test_what_the_kernel_reads_is_what_the_decoders_read(seed: int) -> None:
    log = list(log_of(seed, 3_000))
    by_decoders, by_kernel = (
        Decoder(WEB, ConfluentIds(None), LIMITS.max_bytes, kernels).decode(batch_of(log))
        for kernels in (False, True)
    )
    assert by_kernel.events.schema == by_decoders.events.schema
    assert by_kernel.events.equals(by_decoders.events)
    assert by_kernel.bodies.equals(by_decoders.bodies)
    assert by_kernel.refused == by_decoders.refused


@pytest.mark.parametrize("form", ["event", "batch"])
def test_both_readers_of_clean_events_read_the_same(form: str) -> None:
    events = [event() | SOURCE | {"source_offset": i, "page": "ä" * i} for i in range(50)]
    values = [CLEAN.frame(e) for e in events]
    if form == "batch":
        stretches: list[list[dict[str, object]]] = [events[:20], [], events[20:]]
        values = [CLEAN_BATCH.frame({"events": part}) for part in stretches]
    broken = [values[0][:-1], b"", values[-1][:40]]
    frames = [
        CleanReader(WEB, kernels).read(batch_of_values([*values, *broken]))
        for kernels in (False, True)
    ]
    assert frames[0].events.equals(frames[1].events)
    assert sorted(frames[0].refused) == sorted(frames[1].refused)
    assert len(frames[1].events) == 50
    assert len(frames[1].refused) == 3


def test_each_way_of_counting_gives_the_same_rows() -> None:
    log = list(log_of(7, 6_000))
    roads = [Road(LIMITS, range(PARTITIONS), 100, kernels) for kernels in (False, True)]
    for start in range(0, len(log), 700):
        for road in roads:
            road.drive(log[start : start + 700])
    assert roads[0].gold == roads[1].gold
    assert all(roads[1].gold.values())


def test_a_schema_that_the_kernel_does_not_read_is_left_to_the_decoders() -> None:
    for kind in ("double", ["string", "null"], {"type": "map", "values": "long"}):
        with pytest.raises(Unsupported):
            ColumnReader(
                Schema({"type": "record", "name": "R", "fields": [{"name": "f", "type": kind}]})
            )


def test_the_epoch_of_a_record_is_told_only_where_it_is_sure() -> None:
    epochs = LeaderEpochs(9, 1)
    epochs.note(20, 1)
    epochs.note(30, 2)  # somewhere between the two another leader began
    epochs.note(40, 2)
    told = [epochs.of(offset) for offset in (8, 9, 15, 20, 21, 29, 30, 40, 41)]
    assert told == [-1, 1, 1, 1, -1, -1, 2, 2, -1]


def test_no_batch_waits_for_the_compiler() -> None:
    """After `warm`, a flow calls no kernel with types that it was not compiled for."""
    script = """
import flows.runtime.one_thread
from flows.domain.kernels import avro, hashing, packing, slots, sums
from flows.domain.kernels.warm import warm

def compiled():
    return {
        f"{module.__name__}.{name}": [str(s) for s in function.signatures]
        for module in (avro, hashing, packing, slots, sums)
        for name, function in vars(module).items()
        if hasattr(function, "signatures")
    }

warm()
before = compiled()
from tests.fuzz.check import check
check(1, 3_000)
after = compiled()
print({name: after[name][len(before[name]) :] for name in after if after[name] != before[name]})
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert ran.stdout.strip() == "{}", ran.stdout + ran.stderr
