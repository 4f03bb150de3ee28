"""Make the quality rows of a past day: mostly accepted, a little of the rest, some bad hours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from flows.domain.codes import Code, Outcome
from flows.domain.families import RULES as EVERY_RULE
from flows.domain.rollups import SYNTHETIC
from flows.domain.rules import ALWAYS, RECORD_TOO_LARGE, RECORD_UNREADABLE
from flows.domain.tables import OUTCOMES, RULES, Table
from flows.domain.web.rules import EVENT_RULES, ITEM_RULES
from shopstream.backfill.gold_rows import TableRows, as_table, coarser, rollups_of

TOPIC = "synthetic"
# records of another outcome per thousand accepted events, on an ordinary day
ORDINARY = {
    (Outcome.DUPLICATE, ""): 4.0,
    (Outcome.LATE, Code.LATE): 2.0,
    (Outcome.REJECTED, Code.INVALID): 3.0,
    (Outcome.REJECTED, Code.FUTURE_TIME): 0.4,
    (Outcome.REJECTED, Code.ID_CONFLICT): 0.1,
    (Outcome.REJECTED, Code.NOT_AVRO): 0.3,
    (Outcome.REJECTED, Code.TRUNCATED): 0.3,
    (Outcome.REJECTED, Code.UNKNOWN_SCHEMA): 0.1,
    (Outcome.REJECTED, Code.TOO_LARGE): 0.05,
}
# which rule an invalid event breaks, in weights
BREAKS = {
    "CURRENCY_SHAPE": 3,
    "PRICE_OUT_OF_RANGE": 4,
    "QUANTITY_OUT_OF_RANGE": 3,
    "VISITOR_ID_MISSING": 2,
    "SEARCH_QUERY_MISSING": 3,
    "COUNTRY_SHAPE": 2,
    "DISCOUNT_ABOVE_TOTAL": 1,
    "ORDER_ID_MISSING": 1,
    "PAGE_TOO_LONG": 1,
}
CODE_RULES = {
    Code.LATE: "EVENT_TIME_LATE",
    Code.FUTURE_TIME: "EVENT_TIME_FUTURE",
    Code.ID_CONFLICT: "EVENT_ID_CONFLICT",
    Code.TOO_LARGE: "RECORD_TOO_LARGE",
}
UNREADABLE = {Code.NOT_AVRO, Code.TRUNCATED, Code.UNKNOWN_SCHEMA}


@dataclass(frozen=True)
class BadHours:
    """A time of trouble, in which more records than usual are refused with one code.

    Units: `share` in records per thousand accepted events. `breaks` is the broken rule, where all
    break the same.
    """

    days_ago: int
    hour: int
    hours: float
    code: Code
    share: float
    title: str
    breaks: str = ""

    def covers(self, minutes: np.ndarray, end: datetime) -> np.ndarray:
        """Tell which minutes are in it. Units: milliseconds since 1970."""
        first, last = (
            int(moment.timestamp() * 1000) for moment in (self.began(end), self.ended(end))
        )
        inside: np.ndarray = (minutes >= first) & (minutes < last)
        return inside

    def began(self, end: datetime) -> datetime:
        """Give its begin, in a history with this end."""
        midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight - timedelta(days=self.days_ago) + timedelta(hours=self.hour)

    def ended(self, end: datetime) -> datetime:
        """Give its end, in a history with this end."""
        return self.began(end) + timedelta(hours=self.hours)


TROUBLE = (
    BadHours(23, 9, 5, Code.TRUNCATED, 30, "proxy 1.8 cuts long bodies"),
    BadHours(
        12, 14, 3, Code.INVALID, 80, "web 4.2.0 sends currencies in small letters", "CURRENCY_SHAPE"
    ),
    BadHours(4, 19, 2, Code.LATE, 120, "phones come back from a dead zone"),
)


@dataclass(frozen=True)
class Minutes:
    """The minutes of a day, and how many events were accepted in each."""

    start: np.ndarray
    accepted: np.ndarray

    @property
    def column(self) -> pl.Series:
        """The key column of the tables."""
        return pl.Series("window_start", self.start).cast(pl.Datetime("ms", "UTC"))


@dataclass(frozen=True)
class Refusal:
    """How many records of each minute had one outcome other than accepted.

    `breaks` is the broken rule, where all broke the same.
    """

    outcome: Outcome
    code: str
    breaks: str
    records: np.ndarray

    def broken(self, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
        """Spread the records over the rules that they broke, one rule per record."""
        if self.breaks:
            yield self.breaks, self.records
        elif self.outcome is Outcome.DUPLICATE:
            yield "EVENT_ID_REPEATED", self.records
        elif self.code in UNREADABLE:
            yield RECORD_UNREADABLE.name, self.records
        elif self.code == Code.INVALID:
            weights = np.array(list(BREAKS.values())) / sum(BREAKS.values())
            yield from zip(BREAKS, rng.multinomial(self.records, weights).T, strict=True)
        else:
            yield CODE_RULES[Code(self.code)], self.records


def quality_rows(events: pl.DataFrame, end: datetime, seed: int) -> list[list[TableRows]]:
    """Make outcomes and rules of a day, with their hours and days.

    Shape: events of a whole UTC day.
    """
    applicable = applicable_events(events)
    minutes = Minutes(applicable["minute"].dt.epoch("ms").to_numpy(), applicable["all"].to_numpy())
    rng = np.random.default_rng([seed, int(minutes.start[0]) // 86_400_000, 1])
    refused = refusals(minutes, end, rng)
    outcomes = outcome_rows(minutes, refused)
    rules = rule_rows(applicable, refused, minutes, rng)
    return [
        [(table, rows), *coarser(rows, rollups_of(table))]
        for table, rows in ((OUTCOMES, outcomes), (RULES, rules))
    ]


def applicable_events(events: pl.DataFrame) -> pl.DataFrame:
    """Count the events of each minute that a rule applies to.

    Shape: `minute`; `all` events; those with `items`; one column per `when` of the rules.
    """
    whens = {id(r.when): r.when for r in EVENT_RULES if r.when is not ALWAYS}
    return (
        events.group_by(pl.col("event_time").dt.truncate("1m").alias("minute"))
        .agg(
            pl.len().cast(pl.Int64).alias("all"),
            (pl.col("items").list.len() > 0).sum().cast(pl.Int64).alias("items"),
            *(when.sum().cast(pl.Int64).alias(f"when {key}") for key, when in whens.items()),
        )
        .sort("minute")
    )


def refusals(minutes: Minutes, end: datetime, rng: np.random.Generator) -> list[Refusal]:
    """Draw what was not accepted: a little of everything, and more in times of trouble."""
    refused = [
        Refusal(outcome, code, "", rng.poisson(minutes.accepted * share / 1000))
        for (outcome, code), share in ORDINARY.items()
    ]
    for bad in TROUBLE:
        outcome = Outcome.LATE if bad.code is Code.LATE else Outcome.REJECTED
        share = bad.share / 1000 * bad.covers(minutes.start, end)
        records = rng.poisson(minutes.accepted * share)
        refused.append(Refusal(outcome, bad.code, bad.breaks, records))
    return refused


def outcome_rows(minutes: Minutes, refused: list[Refusal]) -> pl.DataFrame:
    """Count records by minute, outcome and code."""
    outcomes = [Refusal(Outcome.ACCEPTED, "", "", minutes.accepted), *refused]
    parts = [
        pl.DataFrame(
            {"window_start": minutes.column, "records": pl.Series(part.records, dtype=pl.Int64)}
        ).with_columns(
            pl.lit(str(part.outcome)).alias("outcome"), pl.lit(str(part.code)).alias("code")
        )
        for part in outcomes
    ]
    rows = pl.concat(parts).group_by("window_start", "outcome", "code").agg(pl.col("records").sum())
    return synthetic(OUTCOMES, rows.filter(pl.col("records") > 0))


def rule_rows(
    applicable: pl.DataFrame, refused: list[Refusal], minutes: Minutes, rng: np.random.Generator
) -> pl.DataFrame:
    """Count how often each rule was checked and broken."""
    nothing = np.zeros(len(minutes.start), np.int64)
    broken = dict.fromkeys(EVERY_RULE, nothing)
    for refusal in refused:
        for rule, records in refusal.broken(rng):
            broken[rule] = broken[rule] + records
    large, unread = broken[RECORD_TOO_LARGE.name], broken[RECORD_UNREADABLE.name]
    read = sum((refusal.records for refusal in refused), minutes.accepted) - large - unread
    checked = dict.fromkeys(EVERY_RULE, read)
    checked |= {
        r.name: applicable[f"when {id(r.when)}"].to_numpy()
        for r in EVENT_RULES
        if r.when is not ALWAYS
    }
    checked |= {r.name: applicable["items"].to_numpy() for r in ITEM_RULES}
    checked |= {RECORD_UNREADABLE.name: read + unread, RECORD_TOO_LARGE.name: read + unread + large}
    parts = [
        pl.DataFrame(
            {
                "window_start": minutes.column,
                # a record that broke a rule was checked for it, and is no accepted event
                "checked": pl.Series(np.maximum(checked[name], broken[name]), dtype=pl.Int64),
                "broken": pl.Series(broken[name], dtype=pl.Int64),
            }
        ).with_columns(pl.lit(name).alias("rule"), pl.lit(str(rule.dimension)).alias("dimension"))
        for name, rule in EVERY_RULE.items()
    ]
    return synthetic(RULES, pl.concat(parts).filter(pl.col("checked") > 0))


def synthetic(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Add the keys that say that no flow counted these rows."""
    return as_table(
        table,
        frame.with_columns(
            pl.lit("clean").alias("flow"),
            pl.lit(TOPIC).alias("source_topic"),
            pl.lit(SYNTHETIC, pl.Int32).alias("partition"),
        ),
    )
