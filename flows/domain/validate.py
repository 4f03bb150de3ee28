"""Run all rules over a batch of events at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import polars as pl

from flows.domain import rules
from flows.domain.rules import EVENT_RULES, ITEM_RULES, Rule

ITEM = {
    "product_id": pl.String,
    "category": pl.String,
    "quantity": pl.Int32,
    "unit_price_minor": pl.Int64,
}
ASKED = (*EVENT_RULES, rules.TEXT_HAS_NUL)
ALL_RULES = (*ASKED, *ITEM_RULES)
# distinct `when` expressions are evaluated once each: most rules share one
WHENS = {id(r.when): r.when for r in EVENT_RULES if r.when is not rules.ALWAYS}


def breaks(rule: Rule) -> pl.Expr:
    return (rule.broken.fill_null(False) & rule.when).alias(rule.name)


def may_break(rule: Rule) -> pl.Expr:
    return (
        breaks(rule)
        if rule.suspect is None
        else (rule.suspect.fill_null(False) & rule.when).alias(rule.name)
    )


SELECTED = [
    *map(may_break, ASKED),
    *(when.fill_null(False).alias(f"when {key}") for key, when in WHENS.items()),
]
ITEM_SELECTED = [*map(may_break, ITEM_RULES)]


@dataclass(frozen=True)
class Findings:
    """Which rules were asked and which are broken.

    Shape: `checked` and `broken` map a rule's name to one bool an event; a rule that nothing broke
    is not in `broken`, and a rule that is asked of every event is not in `checked`.
    """

    checked: dict[str, np.ndarray]
    broken: dict[str, np.ndarray]

    def any(self, length: int) -> np.ndarray:
        """One bool an event: is any rule broken?"""
        return reduce(np.logical_or, self.broken.values(), np.zeros(length, bool))


def items_of(events: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray]:
    """All items of a batch as one flat frame, and the event (index) that each belongs to."""
    counts = events["items"].list.len().to_numpy()
    filled = events["items"] if counts.all() else events["items"].filter(pl.Series(counts > 0))
    flat = filled.explode().struct.unnest() if len(filled) else pl.DataFrame(schema=ITEM)
    return flat, np.repeat(np.arange(len(events)), counts)


def validate(events: pl.DataFrame) -> Findings:
    """Ask every rule.

    Shape: needs the event's columns, `newer_writer`, `has_nul` and `newest_allowed` (the latest
    event time that is no future).
    """
    items, owner = items_of(events)
    counts = np.bincount(owner, minlength=len(events))
    quantity = np.clip(items["quantity"].to_numpy().astype(np.int64), 0, rules.MAX_QUANTITY)
    amounts = quantity * np.clip(items["unit_price_minor"].to_numpy(), 0, rules.MAX_PRICE_MINOR)
    events = events.with_columns(
        pl.Series("items_count", counts, pl.Int64),
        pl.Series("items_total_minor", sums_of(amounts, counts), pl.Int64),
    )
    found = events.select(SELECTED)
    broken = broken_of(ASKED, events, found)
    for name, rows in broken_of(ITEM_RULES, items, items.select(ITEM_SELECTED)).items():
        broken[name] = np.bincount(owner[rows], minlength=len(events)) > 0
    asked = {key: found[f"when {key}"].to_numpy() for key in WHENS}
    checked = {r.name: asked[id(r.when)] for r in EVENT_RULES if r.when is not rules.ALWAYS}
    has_items = counts > 0
    return Findings(checked | {r.name: has_items for r in ITEM_RULES}, broken)


def broken_of(
    asked: Sequence[Rule], rows: pl.DataFrame, found: pl.DataFrame
) -> dict[str, np.ndarray]:
    """The rules that some row breaks, and which rows; `found` has the rows that may, a column a
    rule.
    """
    broken = {}
    for rule in asked:
        if not found[rule.name].any():
            continue
        hit = found[rule.name].to_numpy().copy()
        if rule.suspect is not None:
            suspects = np.flatnonzero(hit)
            hit[suspects] = rows[suspects].select(breaks(rule)).to_series().to_numpy()
        if hit.any():
            broken[rule.name] = hit
    return broken


def sums_of(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums of consecutive stretches of the values, of `counts` values each; exact, for integers."""
    ends = np.cumsum(counts)
    sums = np.concatenate(([0], np.cumsum(values)))
    return sums[ends] - sums[ends - counts]


def value_of(rule: Rule, event: dict[str, object]) -> tuple[str, str | None]:
    """Where a broken rule points in an event: its field, and what stands there."""
    field = rule.field
    if rule.name == rules.TEXT_HAS_NUL.name:
        field = next((f for f in rules.TEXT_FIELDS if "\0" in str(event[f] or "")), "")
        for name in rules.ITEM_TEXT_FIELDS if not field else ():
            if any("\0" in item[name] for item in event["items"]):  # type: ignore[attr-defined]
                field = f"items.{name}"
                break
    if field == "items":
        return field, f"{len(event['items'])} items"  # type: ignore[arg-type]
    if field.startswith("items."):
        values = [item[field[6:]] for item in event["items"]]  # type: ignore[attr-defined]
        return field, printable(values)
    return field, None if event[field] is None else printable(event[field])


def printable(value: object, most: int = 200) -> str:
    """Text that any log, table or terminal takes: control characters escaped, at most `most`
    characters.
    """
    text = value if isinstance(value, str) else str(value)
    if not text.isprintable():
        text = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:most]
        )
    return text if len(text) <= most else text[: most - 1] + "…"
