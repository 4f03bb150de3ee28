"""Where Kafka is, and how it lets a client in: what every client of ours is made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from flows.domain.errors import PermanentError, ShopstreamError, TransientError

ClientSettings = Mapping[str, Any]
"""Settings of a client by librdkafka's names."""


@dataclass(frozen=True)
class Cluster:
    """A Kafka cluster: its brokers, host:port with commas between, and what they ask of a client.

    `security` holds TLS and SASL settings by librdkafka's names.
    """

    bootstrap: str
    security: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.bootstrap

    def client(self, settings: ClientSettings) -> dict[str, Any]:
        """Complete the settings of a client."""
        return {"bootstrap.servers": self.bootstrap, **self.security, **settings}

    def quiet_client(self) -> dict[str, Any]:
        """Give the settings of a client that asks now and then, and whose caller reports errors."""
        return self.client({"log_level": 0})


class Troubles:
    """Hand on the errors that a client tells of, and keep why it is not let in.

    A client that is refused only times out; the reason comes to its `error_cb` alone.
    """

    def __init__(self, hand_on: Callable[[KafkaError], None]) -> None:
        self._hand_on = hand_on
        self._refusal: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        """Take an error, as the client's callback."""
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self._refusal = error
        self._hand_on(error)

    def explain(
        self, cluster: Cluster, client: Consumer | Producer, failure: KafkaException
    ) -> ShopstreamError:
        """Make the error of a call that had no answer."""
        client.poll(0)  # brings what the client has to tell
        if self._refusal is not None:
            return PermanentError(f"Kafka at {cluster} does not let us in: {self._refusal.str()}")
        return TransientError(f"Kafka at {cluster} does not answer: {failure.args[0].str()}")
