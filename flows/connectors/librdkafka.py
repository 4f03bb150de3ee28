"""librdkafka's C interface, out of confluent-kafka's wheel: no Python object per record.

    Arrow   offsets [0 5 9 …]  data [b0 … b8 …]      values, and keys likewise
              │ numpy: address of the data + offset
              v
    C       rd_kafka_message_t per record, 72 bytes:
            err 4 | · | topic 8 | partition 4 | · | value 8 | length 8 | key 8 | length 8 | · 16

The library copies what it takes, so the arrays need to live no longer than the call.
Source: rdkafka.h of the version in the wheel; the functions here have not changed since 1.0.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int32, c_size_t, c_void_p
from functools import cache
from logging import Logger
from pathlib import Path
from typing import Any

import confluent_kafka
import numpy as np
import pyarrow as pa
from confluent_kafka import KafkaError

from flows.connectors.records import ColumnarRecords

PRODUCER, COPY, WITH_PARTITION = 0, 0x2, 0x8
TEXT_BYTES = 512
MESSAGE = np.dtype(
    {
        "names": ["err", "partition", "value", "value_length", "key", "key_length"],
        "formats": [np.int32, np.int32, np.uint64, np.uint64, np.uint64, np.uint64],
        "offsets": [0, 16, 24, 32, 40, 48],
        "itemsize": 72,
    }
)
# syslog's levels, which the library uses, in those of logging
LEVELS = {0: 50, 1: 50, 2: 50, 3: 40, 4: 30, 5: 20, 6: 20, 7: 10}

ON_ERROR = CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_void_p)
ON_DELIVERY = CFUNCTYPE(None, c_void_p, POINTER(c_int), c_void_p)
ON_LOG = CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_char_p)
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "rd_kafka_conf_new": (c_void_p,),
    "rd_kafka_conf_set": (c_int, c_void_p, c_char_p, c_char_p, c_char_p, c_size_t),
    "rd_kafka_conf_set_error_cb": (None, c_void_p, ON_ERROR),
    "rd_kafka_conf_set_dr_msg_cb": (None, c_void_p, ON_DELIVERY),
    "rd_kafka_conf_set_log_cb": (None, c_void_p, ON_LOG),
    "rd_kafka_new": (c_void_p, c_int, c_void_p, c_char_p, c_size_t),
    "rd_kafka_set_log_queue": (c_int, c_void_p, c_void_p),
    "rd_kafka_topic_new": (c_void_p, c_void_p, c_char_p, c_void_p),
    "rd_kafka_produce_batch": (c_int, c_void_p, c_int32, c_int, c_void_p, c_int),
    "rd_kafka_poll": (c_int, c_void_p, c_int),
    "rd_kafka_flush": (c_int, c_void_p, c_int),
    "rd_kafka_outq_len": (c_int, c_void_p),
    "rd_kafka_fatal_error": (c_int, c_void_p, c_char_p, c_size_t),
    "rd_kafka_topic_destroy": (None, c_void_p),
    "rd_kafka_destroy": (None, c_void_p),
}


@cache
def library() -> ctypes.CDLL | None:
    """Load the library of the wheel; None where the client was built otherwise."""
    package = Path(confluent_kafka.__file__).parent
    # where the tools that repair wheels put it, on Linux and macOS
    for folder in (package.with_name("confluent_kafka.libs"), package / ".dylibs"):
        for path in sorted(folder.glob("librdkafka*")):
            loaded = ctypes.CDLL(str(path))
            for name, (result, *arguments) in SIGNATURES.items():
                function = getattr(loaded, name)
                function.restype, function.argtypes = result, arguments
            return loaded
    return None


class BatchProducer:
    """A producer of one topic that takes whole arrays; used by one thread.

    `failed` gets each record that will never arrive, `trouble` the errors of the client, both
    within `produce`, `poll` and `flush`. With idempotence and reports of errors only, as our
    producers have them, a queue that is empty proves that the rest has arrived.
    Errors: ValueError for a setting that the library does not know.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        topic: str,
        failed: Callable[[KafkaError], None],
        trouble: Callable[[KafkaError], None],
        logger: Logger,
    ) -> None:
        found = library()
        assert found is not None, "asked before"
        self._library = found
        self._trouble = trouble
        # The library keeps pointers to these.
        self._callbacks = (
            ON_ERROR(self._tell),
            ON_DELIVERY(lambda _, message, __: failed(KafkaError(message[0]))),
            ON_LOG(lambda _, level, name, line: logger.log(LEVELS[level], _text(name, line))),
        )
        self._handle: Any = None
        text = ctypes.create_string_buffer(TEXT_BYTES)
        conf = found.rd_kafka_conf_new()
        for name, value in {**settings, "log.queue": True}.items():
            value = str(value).lower() if isinstance(value, bool) else str(value)
            if found.rd_kafka_conf_set(conf, name.encode(), value.encode(), text, TEXT_BYTES):
                raise ValueError(text.value.decode())
        on_error, on_delivery, on_log = self._callbacks
        found.rd_kafka_conf_set_error_cb(conf, on_error)
        found.rd_kafka_conf_set_dr_msg_cb(conf, on_delivery)
        found.rd_kafka_conf_set_log_cb(conf, on_log)
        self._handle = found.rd_kafka_new(PRODUCER, conf, text, TEXT_BYTES)
        if not self._handle:
            raise ValueError(text.value.decode())
        # lines come within `poll`, too: no thread of the library runs Python
        found.rd_kafka_set_log_queue(self._handle, None)
        self._topic = found.rd_kafka_topic_new(self._handle, topic.encode(), None)
        weakref.finalize(self, _destroy, found, self._handle, self._topic)

    def __len__(self) -> int:
        """Count the records without an answer."""
        return int(self._library.rd_kafka_outq_len(self._handle))

    def produce(self, records: ColumnarRecords) -> tuple[np.ndarray, KafkaError | None]:
        """Hand over records; gives the rows that were not taken, and why the first was not."""
        count = len(records)
        messages = np.zeros(count, MESSAGE)
        messages["partition"] = records.partition
        messages["value"], messages["value_length"] = _addresses(records.values)
        if records.keys is not None:
            messages["key"], messages["key_length"] = _addresses(records.keys)
        pointer = messages.ctypes.data_as(c_void_p)
        self._library.rd_kafka_produce_batch(self._topic, -1, COPY | WITH_PARTITION, pointer, count)
        left = np.flatnonzero(messages["err"])
        return left, KafkaError(int(messages["err"][left[0]])) if len(left) else None

    def poll(self, seconds: float) -> None:
        """Serve what the client has to tell, for at most so long."""
        self._library.rd_kafka_poll(self._handle, int(seconds * 1000))

    def flush(self, seconds: float) -> int:
        """Wait until all is answered, for at most so long; gives how many records are not."""
        self._library.rd_kafka_flush(self._handle, int(seconds * 1000))
        return len(self)

    def _tell(self, _: Any, code: int, reason: bytes, __: Any) -> None:
        fatal = code == KafkaError._FATAL
        if fatal and self._handle:
            text = ctypes.create_string_buffer(TEXT_BYTES)
            code = self._library.rd_kafka_fatal_error(self._handle, text, TEXT_BYTES)
            reason = text.value
        self._trouble(KafkaError(code, _text(reason), fatal))


def _addresses(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Give where each value stands in memory, 0 for null, and its length."""
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int32)[values.offset :][: len(values) + 1].astype(np.uint64)
    # an empty value is another thing than none, so it stands somewhere, too
    start = np.uint64(offsets.address if data is None or not data.size else data.address)
    addresses = start + ends[:-1]
    if values.null_count:
        addresses[values.is_null().to_numpy(zero_copy_only=False)] = 0
    return addresses, ends[1:] - ends[:-1]


def _text(*parts: bytes | None) -> str:
    return ": ".join((part or b"").decode(errors="replace") for part in parts)


def _destroy(found: ctypes.CDLL, handle: Any, topic: Any) -> None:
    found.rd_kafka_topic_destroy(topic)
    found.rd_kafka_destroy(handle)
