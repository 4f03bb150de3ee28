"""A family of events: all that tells web events from those of doors or of reviews, as one value.

Every family takes the same road. Its raw topic is decoded by its contract, judged by its rules and
counted into its metrics; the code on that road knows no family by name.

To add a family, write its contract and its value, and add the value to families.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from flows.domain.metrics import MetricTable
from flows.domain.rules import Rule


@dataclass(frozen=True, eq=False)
class Items:
    """The items in an event: its field `name` holds a list of records.

    Shape: `columns` are the fields of one item. `rule_sums` and `metric_sums` are what event rules
    and event metrics may read of the items: a column per entry, summed over the items of an event.
    Rules get theirs before anything was judged, so these must not overflow whatever stands in an
    item. An item's metrics may read `once`, true of the first item of an event with the same
    `once_per` columns, and every column of the event that they name.
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
        """The column that event rules read the number of items from."""
        return f"{self.name}_count"


@dataclass(frozen=True, eq=False)
class Family:
    """A family of events.

    Its contract is `avro/<name>_event.avsc`: a record with an `event_id` (a UUID), an `event_time`
    (UTC milliseconds) and the field `key`, whose value is the key of the Kafka record, so that all
    that concerns one key is in one partition, in order. `texts` are its fields of type string, in
    the order in which a broken one is looked for. Where the contract has an enum `event_type`, a
    newer writer may know types that we do not.
    """

    name: str
    title: str
    key: str
    texts: tuple[str, ...]
    rules: tuple[Rule, ...]
    metrics: tuple[MetricTable, ...]
    items: Items | None = None

    @property
    def contract(self) -> str:
        """The contract of raw events."""
        return f"{self.name}_event"

    @property
    def clean_contract(self) -> str:
        """The contract of an accepted event: the raw event, then where it came from."""
        return f"clean_{self.name}_event"

    @property
    def batch_contract(self) -> str:
        """The contract of a batch of accepted events in one record."""
        return f"clean_{self.name}_batch"

    @property
    def item_rules(self) -> tuple[Rule, ...]:
        """The rules of its items."""
        return self.items.rules if self.items is not None else ()
