"""The two ways to hand records to librdkafka: its C interface, or the client of Python.

They do the same; the second is the reference, and takes over where the library is not found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from logging import Logger
from typing import Any, Literal, Protocol

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from flows.connectors.librdkafka import BatchProducer, library
from flows.connectors.records import ColumnarRecords, chosen, rows_of_partitions

Edge = Literal["native", "client"]


class RecordProducer(Protocol):
    """A producer of one topic."""

    def __len__(self) -> int: ...

    def produce(self, records: ColumnarRecords) -> tuple[np.ndarray, KafkaError | None]:
        """Hand over records; gives the rows that were not taken, and why the first was not."""

    def poll(self, seconds: float) -> object:
        """Serve what the client has to tell, for at most so long."""

    def flush(self, seconds: float) -> int:
        """Wait until all is answered, for at most so long; gives how many records are not."""


class ClientProducer:
    """A producer of one topic through the client of Python: a dict per record."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        topic: str,
        failed: Callable[[KafkaError], None],
        trouble: Callable[[KafkaError], None],
        logger: Logger,
    ) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failed(error)

        self._topic, self._failed = topic, failed
        self._client = Producer(
            {**settings, "on_delivery": delivered, "error_cb": trouble, "logger": logger}
        )

    def __len__(self) -> int:
        return len(self._client)

    def produce(self, records: ColumnarRecords) -> tuple[np.ndarray, KafkaError | None]:
        """Hand over records; gives the rows that were not taken, and why the first was not."""
        left, error = [np.arange(0)], None
        for partition, rows in rows_of_partitions(records.partition).items():
            keys = [None] * len(rows) if records.keys is None else chosen(records.keys, rows)
            messages: list[dict[str, Any]] = [
                {"value": value, "key": key}
                for value, key in zip(chosen(records.values, rows), keys, strict=True)
            ]
            if self._client.produce_batch(self._topic, messages, partition=partition) < len(rows):
                errors = [message.get("_error") for message in messages]
                left.append(rows[[e is not None for e in errors]])
                error = error or next(e for e in errors if e is not None)
        return np.sort(np.concatenate(left)), error

    def poll(self, seconds: float) -> int:
        """Serve what the client has to tell, for at most so long."""
        return self._client.poll(seconds)

    def flush(self, seconds: float) -> int:
        """Wait until all is answered, for at most so long; gives how many records are not."""
        try:
            return self._client.flush(seconds)
        except (KafkaException, SystemError) as error:
            # A fatal one, after which nothing is delivered. Of some the client forgets to say what
            # it was, and Python complains.
            known = isinstance(error, KafkaException)
            self._failed(error.args[0] if known else KafkaError(KafkaError._FATAL))
            return len(self)


def edge_of(wanted: Edge) -> Edge:
    """Give the edge that this machine has."""
    return "client" if wanted == "native" and library() is None else wanted


PRODUCERS: dict[Edge, type[BatchProducer] | type[ClientProducer]] = {
    "native": BatchProducer,
    "client": ClientProducer,
}
