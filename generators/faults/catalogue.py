"""The faults, as data: each makes extra records out of a healthy event, with their outcome.

A fault never touches the healthy event itself, so switching one on changes no other byte
(test_a_fault_changes_no_healthy_byte).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from generators.faults.corrupt import CORRUPTIONS, Corrupt
from generators.faults.rule_violations import RULES, Change, break_several
from generators.sending.encoding import NEWEST, Encoding

DAY_MS = 86_400_000
YEAR_2099_MS = 4_070_908_800_000
Repeat = Literal["no", "same", "other"]


@dataclass(frozen=True)
class FaultContext:
    """What a fault may know: a healthy event, just sent, and where time stands.

    Time: the partition's watermark is the healthy event's time; no clock passes `latest_ms` in this
    run.
    """

    event: dict[str, Any]
    value: bytes
    fresh_id: str
    roll: int
    lateness_ms: int
    patience_ms: int
    latest_ms: int
    encoding: Encoding

    @property
    def time_ms(self) -> int:
        """Give the event time of the healthy event."""
        return int(self.event["event_time"])

    def copy(self, **changes: Any) -> dict[str, Any]:
        """Derive another event with an id of its own."""
        items = [dict(item) for item in self.event["items"]]
        return {**self.event, "items": items, "event_id": self.fresh_id, **changes}

    def upto(self, most: int) -> int:
        """Choose from 1 to `most`, and `most` itself one time in eight: mistakes are at edges."""
        return most if self.roll % 8 == 0 else 1 + (self.roll >> 8) % max(most, 1)


@dataclass(frozen=True)
class ExtraRecord:
    """A record beside the healthy stream.

    Shape: `event` is None when nobody can read the bytes, and `code` then says why.
    Time: sent once the partition's watermark has reached `due_ms`, at once when that is 0.
    """

    value: bytes | None
    event: dict[str, Any] | None
    due_ms: int = 0
    repeat: Repeat = "no"
    code: str = ""


MakeExtras = Callable[[FaultContext], list[ExtraRecord]]


@dataclass(frozen=True)
class Fault:
    """A kind of fault: how its records are made, and what must become of them."""

    name: str
    group: str
    help: str
    expects: str
    make: MakeExtras


def _duplicate_now(context: FaultContext) -> list[ExtraRecord]:
    return [ExtraRecord(context.value, context.event, repeat="same")]


def _duplicate_later(context: FaultContext) -> list[ExtraRecord]:
    due = context.time_ms + context.upto(min(context.lateness_ms * 9 // 10, context.patience_ms))
    return [ExtraRecord(context.value, context.event, due_ms=due, repeat="same")]


def _duplicate_expired(context: FaultContext) -> list[ExtraRecord]:
    """Send an event that is almost late already, and its bytes again when it is."""
    event = context.copy(event_time=context.time_ms - context.lateness_ms * 19 // 20)
    value = context.encoding.value(event)
    due = event["event_time"] + context.lateness_ms + 1 + context.roll % 1000
    return [ExtraRecord(value, event), ExtraRecord(value, event, due_ms=due, repeat="same")]


def _id_conflict(context: FaultContext) -> list[ExtraRecord]:
    event = {**context.event, "page": f"/changed/{context.roll % 1000}"}
    return [ExtraRecord(context.encoding.value(event), event, repeat="other")]


def _out_of_order(context: FaultContext) -> list[ExtraRecord]:
    event = context.copy(event_time=context.time_ms - context.upto(context.lateness_ms))
    return [ExtraRecord(context.encoding.value(event), event)]


def _late(context: FaultContext) -> list[ExtraRecord]:
    event = context.copy(
        event_time=context.time_ms
        - context.lateness_ms
        - (context.upto(600_000) if context.roll % 8 else 1)
    )
    return [ExtraRecord(context.encoding.value(event), event)]


def _late_hours(context: FaultContext) -> list[ExtraRecord]:
    event = context.copy(
        event_time=context.time_ms - context.lateness_ms - 3_600_000 * (1 + context.roll % 48)
    )
    return [ExtraRecord(context.encoding.value(event), event)]


def _future(context: FaultContext) -> list[ExtraRecord]:
    event = context.copy(event_time=max(context.latest_ms, context.time_ms) + DAY_MS)
    return [ExtraRecord(context.encoding.value(event), event)]


def _future_2099(context: FaultContext) -> list[ExtraRecord]:
    event = context.copy(event_time=YEAR_2099_MS + context.roll % DAY_MS)
    return [ExtraRecord(context.encoding.value(event), event)]


def _written(version: int, other_framing: bool) -> MakeExtras:
    def make(context: FaultContext) -> list[ExtraRecord]:
        event = context.copy() if version >= NEWEST else context.copy(app_version=None)
        framing = context.encoding.other_framing if other_framing else context.encoding.framing
        return [ExtraRecord(context.encoding.value(event, version, framing), event)]

    return make


def _corrupted(corrupt: Corrupt, code: str) -> MakeExtras:
    def make(context: FaultContext) -> list[ExtraRecord]:
        event = context.copy()
        header, body = context.encoding.header(), context.encoding.body(event)
        return [ExtraRecord(corrupt(header, body, context.roll), None, code=code)]

    return make


def _broken(change: Change) -> MakeExtras:
    def make(context: FaultContext) -> list[ExtraRecord]:
        event = context.copy()
        change(event, context.roll)
        return [ExtraRecord(context.encoding.value(event), event)]

    return make


_ALL = [
    Fault("duplicate_now", "repeats", "the same bytes at once", "duplicate", _duplicate_now),
    Fault(
        "duplicate_later",
        "repeats",
        "the same bytes again within the lateness",
        "duplicate",
        _duplicate_later,
    ),
    Fault(
        "duplicate_expired",
        "repeats",
        "an event, and its bytes again past the lateness",
        "accepted, then late LATE",
        _duplicate_expired,
    ),
    Fault(
        "id_conflict",
        "repeats",
        "a known id with other content",
        "rejected ID_CONFLICT",
        _id_conflict,
    ),
    Fault("out_of_order", "times", "older, within the lateness", "accepted", _out_of_order),
    Fault("late", "times", "past the lateness, to ten minutes", "late LATE", _late),
    Fault("late_hours", "times", "a phone that was off for hours", "late LATE", _late_hours),
    Fault("future_day", "times", "a day ahead", "rejected FUTURE_TIME", _future),
    Fault("future_2099", "times", "a clock in 2099", "rejected FUTURE_TIME", _future_2099),
    Fault("schema_v1", "writers", "an old writer", "accepted", _written(1, other_framing=False)),
    Fault(
        "other_framing",
        "writers",
        "the framing that the others do not use",
        "accepted",
        _written(NEWEST, other_framing=True),
    ),
    Fault(
        "other_framing_v1",
        "writers",
        "that framing by an old writer",
        "accepted",
        _written(1, other_framing=True),
    ),
    *(
        Fault(
            name,
            "corrupt",
            corruption.help,
            f"rejected {corruption.code}",
            _corrupted(corruption.corrupt, corruption.code),
        )
        for name, corruption in CORRUPTIONS.items()
    ),
    *(
        Fault(f"rule:{name}", "rules", f"breaks {name}", "rejected INVALID", _broken(change))
        for name, change in RULES.items()
    ),
    Fault(
        "rules_several",
        "rules",
        "breaks two to four rules at once",
        "rejected INVALID",
        _broken(break_several),
    ),
]
FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}
GROUPS = tuple(dict.fromkeys(fault.group for fault in _ALL))
# Records of a quarter of a megabyte and of ten thousand items get a fiftieth of the others' share,
# or they would be most of the bytes.
SHARE_FACTORS = {"too_large": 0.02, "rule:TOO_MANY_ITEMS": 0.02}


def group_shares(group: str, share: float) -> dict[str, float]:
    """Spread a share evenly over the faults of a group."""
    names = [fault.name for fault in _ALL if fault.group == group]
    return {name: share / len(names) * SHARE_FACTORS.get(name, 1.0) for name in names}


def expand(shares: Mapping[str, float]) -> dict[str, float]:
    """Replace the names of groups by those of their faults.

    Errors: KeyError for a name that is neither.
    """
    by_fault: dict[str, float] = {}
    for name, share in shares.items():
        if name in GROUPS:
            by_fault |= group_shares(name, share)
        else:
            by_fault[FAULTS[name].name] = share
    return by_fault
