"""A family of events: all that distinguishes web events from those of doors or of reviews.

Every family is processed alike: its raw topic is decoded by its contract, judged by its rules and
counted into its metrics. The code that does so knows no family by name.

To add a family, write its contract and its value, and add the value to families.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from flows.domain.metrics import MetricTable
from flows.domain.rules import Rule


@dataclass(frozen=True, eq=False)
class Items:
    """The items in an event: its field `name` holds a list of records.

    Shape: `columns` are the fields of one item. `rule_sums` and `metric_sums` are what event rules
    and event metrics may read of the items: one column per entry, summed over the items of an
    event. Rules get their sums before anything is judged, so these must not overflow, whatever an
    item holds. An item's metrics may read every column of its event, and `once`: whether it is the
    first item of the event with its values in the `once_per` columns.
    """

    name: str
    columns: Mapping[str, pl.DataType]
    texts: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    rule_sums: Mapping[str, pl.Expr] = field(default_factory=dict)
    metric_sums: Mapping[str, pl.Expr] = field(default_factory=dict)
    once_per: tuple[str, ...] = ()

    @property
    def count(self) -> str:
        """Name the column that has the number of items, for event rules."""
        return f"{self.name}_count"


@dataclass(frozen=True)
class Stake:
    """What a refused event was worth: minor units of a currency, which may be unreadable ('')."""

    amount_minor: int
    currency: str


def no_stake(_: Mapping[str, Any]) -> Stake | None:
    """Say that no money was at stake."""
    return None


@dataclass(frozen=True, eq=False)
class Family:
    """A family of events.

    Its contract is `avro/<name>_event.avsc`: a record with an `event_id` (a UUID), an `event_time`
    (UTC milliseconds) and the field named by `key`, whose value is the key of the Kafka record: so
    all events of one key are in one partition, in order. `texts` are its fields of type string, in
    the order in which a broken one is looked for. `stake` says what a refused event was worth.
    Where the contract has an enum `event_type`, a newer writer may know types that this version
    does not.
    """

    name: str
    title: str
    key: str
    texts: tuple[str, ...]
    rules: tuple[Rule, ...]
    metrics: tuple[MetricTable, ...]
    items: Items | None = None
    stake: Callable[[Mapping[str, Any]], Stake | None] = no_stake

    def __post_init__(self) -> None:
        # what a restart must read again is remembered per longest window (Counting)
        longest = max(metric.window for metric in self.metrics)
        for metric in self.metrics:
            if longest % metric.window:
                raise ValueError(f"{metric.name}: its window must divide the longest, {longest}")

    @property
    def contract(self) -> str:
        """Name the contract of raw events."""
        return f"{self.name}_event"

    @property
    def clean_contract(self) -> str:
        """Name the contract of an accepted event: the raw event, then where it came from."""
        return f"clean_{self.name}_event"

    @property
    def batch_contract(self) -> str:
        """Name the contract of a batch of accepted events in one record."""
        return f"clean_{self.name}_batch"

    @property
    def item_rules(self) -> tuple[Rule, ...]:
        """Give the rules of its items."""
        return self.items.rules if self.items is not None else ()
