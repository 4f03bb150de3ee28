"""Records that other clients write, in their own ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Producer

from deploy.native.errors import ServicesError
from shopstream.drills import records, steps
from shopstream.drills.clients import Clients, apache_avro
from shopstream.drills.private import PrivateServices
from shopstream.drills.records import Raw
from shopstream.drills.stage import PARTITIONS, Stage, expect

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
EACH = 12
LINES = ("console:a line of text", 'console:{"event_type": "PAGE_VIEW"}')
FAR = 10**12


def foreign(stage: Stage, private: PrivateServices, seed: int) -> dict[str, Any]:
    """Write as other clients do: codecs, no key, transactions, and straight into clean.web."""
    stage.start_all()
    sent: dict[str, int] = {}
    skipped: dict[str, str] = {}
    for number, (name, send) in enumerate(_senders(stage, private).items()):
        try:
            sent[name] = _send_each_way(send, seed * 100 + 10 * number)
        except ServicesError as reason:
            skipped[name] = str(reason)
    clients(stage, private).console(LINES, "zstd")
    committed = _transaction(stage, seed * 100 + 70, commit=True)
    aborted = _transaction(stage, seed * 100 + 71, commit=False)
    # a flow comes to the end of a topic by a record, not by the mark of a transaction
    for partition, record in steps.closing(seed * 100 + 72, PARTITIONS):
        stage.produce([record], partition=partition)
    proof = stage.prove(ledger=None)
    refused = steps.letters(stage)
    expect(refused == len(LINES), f"{refused} of {len(LINES)} lines of text were refused")
    expected = sum(sent.values()) + committed + PARTITIONS
    expect(steps.counted(stage) == expected, f"gold counts {steps.counted(stage)}, not {expected}")
    ((control,),) = stage.query("SELECT sum(control)::int FROM ops.account")
    # one marker for each partition that a transaction wrote to, and the aborted records
    expect(aborted < control <= aborted + 2 * PARTITIONS, f"{control} control offsets are told")
    strangers = _write_into_clean(stage, seed)
    return {
        "sent": sent,
        "skipped": skipped,
        "committed": committed,
        "aborted": aborted,
        "control": control,
        "refused by metrics": strangers,
        "proof": [*proof, steps.no_residue(stage)],
    }


def clients(stage: Stage, private: PrivateServices) -> Clients:
    """Give the clients that write to raw.web."""
    return Clients(stage.services.bootstrap, stage.topic("raw_web"), private.folder)


Send = Callable[[Sequence[Raw], str], None]


def _senders(stage: Stage, private: PrivateServices) -> dict[str, Send]:
    def ours(made: Sequence[Raw], codec: str) -> None:
        stage.produce(made, codec=codec)

    def avro(made: Sequence[Raw], codec: str) -> None:
        events = [records.unframed(value) for _, value in made if value is not None]
        values = apache_avro(events, private.folder / "install.log")
        keys = [key for key, _ in made]
        stage.produce(list(zip(keys, values, strict=True)), codec=codec)

    senders: dict[str, Send] = {
        "librdkafka": ours,
        "kcat": clients(stage, private).kcat,
        "Java's client": clients(stage, private).java,
        "Apache's avro": avro,
    }
    return senders


def _send_each_way(send: Send, seed: int) -> int:
    """Send events in each codec, with their key; and some without, one visitor each."""
    count = 0
    for number, codec in enumerate(CODECS):
        made = steps.views(seed + number, EACH, unreadable=False)
        # a visitor without a key is in any partition, but only once
        keyless = records.view(
            (seed + number) * 2**20 + 2**18, f"nobody-{seed}-{number}", records.now_ms()
        )
        send([*made, (None, records.framed(keyless))], codec)
        count += len(made) + 1
    return count


def _transaction(stage: Stage, seed: int, commit: bool) -> int:
    """Write records in a transaction; gives how many."""
    producer = Producer(
        {
            "bootstrap.servers": stage.services.bootstrap,
            "transactional.id": f"drill-{seed}",
            "partitioner": "murmur2_random",
            "log_level": 0,
        }
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    made = steps.views(seed, EACH, unreadable=False)
    for key, value in made:
        producer.produce(stage.topic("raw_web"), value, key)
    producer.flush(30)
    producer.commit_transaction(30) if commit else producer.abort_transaction(30)
    return len(made)


def _write_into_clean(stage: Stage, seed: int) -> int:
    """Write records into clean.web that clean never wrote; gives how many metrics refused.

    They stay unread by the second opinion, which reads that topic as what it should be.
    """
    at, before = records.now_ms(), steps.counted(stage)
    strangers = [
        records.clean_event(1, (0, FAR), at),
        records.clean_event(2, (0, 5), at + 400 * 86_400_000, source_timestamp=at),
        b"no avro",
    ]
    stage.produce([(b"x", value) for value in strangers], topic="clean_web", partition=0)
    made = steps.views(seed * 100 + 80, EACH, unreadable=False)
    stage.produce(made)
    stage.drain()
    refused = steps.letters(stage, "metrics")
    expect(refused == len(strangers), f"metrics refused {refused} of {len(strangers)} strangers")
    events = steps.counted(stage) - before
    expect(events == len(made), f"{events} of {len(made)} events were counted behind strangers")
    return refused
