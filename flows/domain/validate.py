"""Check all rules of a family over a batch of events at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import polars as pl

from flows.domain import rules
from flows.domain.family import Family, Items
from flows.domain.items import FlatItems, items_of, summed
from flows.domain.rules import Rule
from flows.domain.text import NulFinder, printable


@dataclass(frozen=True)
class Findings:
    """Which rules were checked and which are broken.

    Shape: `checked` and `broken` map a rule's name to one bool per event; a rule that nothing broke
    is not in `broken`, and a rule that is checked for every event is not in `checked`.
    """

    checked: dict[str, np.ndarray]
    broken: dict[str, np.ndarray]

    def any(self, length: int) -> np.ndarray:
        """Mark the events that break any rule."""
        return reduce(np.logical_or, self.broken.values(), np.zeros(length, bool))


class Validator:
    """Validate the events of a family.

    The expressions are built once: building them again costs a small batch as much as evaluating.
    """

    def __init__(self, family: Family) -> None:
        self._items = family.items
        self._item_rules = family.item_rules
        self._rules = (*family.rules, rules.TEXT_HAS_NUL)
        self._conditional = [r for r in family.rules if r.when is not rules.ALWAYS]
        # rules share few conditions: each is evaluated once
        self._conditions = {id(r.when): r.when for r in self._conditional}
        self._questions = [
            *map(_may_break, self._rules),
            *(
                when.fill_null(False).alias(_condition(key))
                for key, when in self._conditions.items()
            ),
        ]
        self._item_questions = [
            *map(_may_break, family.item_rules),
            *([] if self._items is None else _aliased(self._items)),
        ]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Give every rule that is checked for readable events or their items."""
        return (*self._rules, *self._item_rules)

    def validate(self, events: pl.DataFrame, flat: FlatItems | None = None) -> Findings:
        """Check every rule.

        Shape: needs the event's columns, `newer_writer`, `has_nul` and `newest_allowed` (the latest
        event time that is no future); `flat` are the items, where they are known.
        """
        checked: dict[str, np.ndarray] = {}
        item_broken: dict[str, np.ndarray] = {}
        if self._items is not None:
            flat = flat or items_of(events, self._items)
            answers = flat.frame.select(self._item_questions)
            events = events.with_columns(
                pl.Series(self._items.count, flat.counts, pl.Int64),
                *summed(flat, answers, self._items.rule_sums),
            )
            checked = dict.fromkeys((r.name for r in self._items.rules), flat.counts > 0)
            for name, rows in _broken(self._items.rules, flat.frame, answers).items():
                item_broken[name] = np.bincount(flat.owner[rows], minlength=len(events)) > 0
        answers = events.select(self._questions)
        holds = {key: answers[_condition(key)].to_numpy() for key in self._conditions}
        conditional = {r.name: holds[id(r.when)] for r in self._conditional}
        return Findings(conditional | checked, _broken(self._rules, events, answers) | item_broken)


class Pointer:
    """Say to which field of an event a broken rule points."""

    def __init__(self, family: Family) -> None:
        self._nul = NulFinder(family)
        self._items = family.items

    def value_of(self, rule: Rule, event: dict[str, object]) -> tuple[str, str | None]:
        """Give the field that a broken rule is about, and what stands there."""
        field = self._nul.field_of(event) if rule is rules.TEXT_HAS_NUL else rule.field
        if self._items is not None and field.split(".")[0] == self._items.name:
            return field, self._items_as_text(event, field.partition(".")[2])
        value = event[field]
        return field, None if value is None else printable(value)

    def _items_as_text(self, event: dict[str, object], name: str) -> str:
        assert self._items is not None
        items = event[self._items.name]
        assert isinstance(items, list)
        return printable([item[name] for item in items]) if name else f"{len(items)} items"


def _breaks(rule: Rule) -> pl.Expr:
    return (rule.broken.fill_null(False) & rule.when).alias(rule.name)


def _may_break(rule: Rule) -> pl.Expr:
    if rule.suspect is None:
        return _breaks(rule)
    return (rule.suspect.fill_null(False) & rule.when).alias(rule.name)


def _condition(key: int) -> str:
    return f"when {key}"


def _aliased(items: Items) -> list[pl.Expr]:
    return [value.alias(name) for name, value in items.rule_sums.items()]


def _broken(
    checked: Sequence[Rule], rows: pl.DataFrame, answers: pl.DataFrame
) -> dict[str, np.ndarray]:
    """Mark the rows that break each rule; a rule that none breaks is left out.

    Shape: `answers` says which rows may break a rule, one column per rule.
    """
    broken = {}
    for rule in checked:
        # nearly every column is all false, and Polars finds that out without a copy
        if not answers[rule.name].any():
            continue
        hits = answers[rule.name].to_numpy().copy()
        if rule.suspect is not None:
            suspects = np.flatnonzero(hits)
            hits[suspects] = rows[suspects].select(_breaks(rule)).to_series().to_numpy()
        if hits.any():
            broken[rule.name] = hits
    return broken
