"""The yardstick: read, decode, encode, write, and nothing else, in one process.

No rules, no ids, no tallies, no commits, no proof of what was decoded: what a program does that
uses the same libraries straight on. Measured beside `clean` on the same topic, it lets figures of
different machines and hours be compared as ratios.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pyruhvro
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.errors import BenchError
from bench.sandbox import Sandbox
from flows.connectors.avro.schemas import load
from flows.runtime.paths import ROOT
from flows.runtime.settings import load_settings

BATCH = 20_000
WAIT_SECONDS = 0.03
QUEUE_FULL_SECONDS = 0.005


@dataclass(frozen=True)
class SpikeResult:
    """How fast the yardstick went, from its first batch on."""

    events: int
    seconds: float
    cpu_seconds: float

    @property
    def eps(self) -> float:
        """Give the events per second."""
        return self.events / self.seconds

    def row(self) -> dict[str, Any]:
        """Give the figures of this run for the results."""
        return {
            "events": self.events,
            "work_eps": round(self.eps),
            "cpu_s_per_million": round(self.cpu_seconds / self.events * 1e6, 2),
        }


def run_spike(sandbox: Sandbox, events: int) -> SpikeResult:
    """Let a process of its own take so many events from the raw topic to the clean one.

    Errors: BenchError when it fails.
    """
    ran = subprocess.run(
        [sys.executable, "-m", "bench.spike", str(events)],
        env=os.environ | dict(sandbox.environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise BenchError(f"the yardstick failed: {ran.stderr.strip()[-300:]}")
    return SpikeResult(**json.loads(ran.stdout))


def main(events: int) -> SpikeResult:
    """Take the events all the way."""
    settings, schema = load_settings(), load("web_event")
    raw, clean = settings.topic("topic_raw_web"), settings.topic("topic_clean_web")
    consumer = Consumer(
        settings.kafka.client(
            {"group.id": "spike", "enable.auto.commit": False, "fetch.queue.backoff.ms": 1}
        )
    )
    producer = Producer(settings.kafka.client({"compression.type": "lz4", "linger.ms": 1}))
    partitions = consumer.list_topics(raw, timeout=30).topics[raw].partitions
    consumer.assign([TopicPartition(raw, p, 0) for p in partitions])
    began, cpu, first, done = 0.0, 0.0, 0, 0
    while done < events:
        messages = consumer.consume(BATCH, WAIT_SECONDS)
        if not messages:
            continue
        bodies = [(message.value() or b"")[10:] for message in messages]
        columns = pyruhvro.deserialize_array(bodies, schema.text)
        (encoded,) = pyruhvro.serialize_record_batch(columns, schema.text, 1)
        by_partition: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for message, body in zip(messages, encoded.to_pylist(), strict=True):
            by_partition[message.partition() or 0].append({"value": body, "key": message.key()})
        for partition, records in by_partition.items():
            while records:
                producer.produce_batch(clean, records, partition=partition)
                records = [r for r in records if r.pop("_error", None)]
                producer.poll(QUEUE_FULL_SECONDS if records else 0)
        done += len(messages)
        if not began:
            began, cpu, first = time.perf_counter(), time.process_time(), done
    producer.flush(60)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    return SpikeResult(done - first, seconds, cpu_seconds)


if __name__ == "__main__":
    print(json.dumps(vars(main(int(sys.argv[1])))))
