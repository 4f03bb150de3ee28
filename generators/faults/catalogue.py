"""The faults, as data: each makes extra records out of a healthy event and says what must become of
them.

A fault never touches the healthy event itself, so switching one on changes no other byte
(test_a_fault_changes_no_healthy_byte).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from generators.faults.corrupt import CORRUPTIONS, Spoil
from generators.faults.rule_violations import RULES, break_several
from generators.sending.encoding import NEWEST, Wire

DAY_MS = 86_400_000
YEAR_2099_MS = 4_070_908_800_000
Repeat = Literal["no", "same", "other"]


@dataclass(frozen=True)
class Situation:
    """What a fault may know: a healthy event, just sent, and where time stands.

    Time: the partition's watermark is the healthy event's time; `latest_ms` is what no clock passes
    in this run.
    """

    event: dict[str, Any]
    value: bytes
    fresh_id: str
    roll: int
    lateness_ms: int
    patience_ms: int
    latest_ms: int
    wire: Wire

    def copy(self, **changes: Any) -> dict[str, Any]:
        """Derive another event with an id of its own."""
        items = [dict(item) for item in self.event["items"]]
        return {**self.event, "items": items, "event_id": self.fresh_id, **changes}

    def upto(self, most: int) -> int:
        """Choose from 1 to `most`, the most itself one time in eight: edges are where mistakes
        live.
        """
        return most if self.roll % 8 == 0 else 1 + (self.roll >> 8) % max(most, 1)


@dataclass(frozen=True)
class Extra:
    """A record beside the healthy stream.

    Time: it is sent once the partition's watermark has reached `due_ms`, at once when that is 0.
    """

    value: bytes | None
    event: dict[str, Any] | None
    due_ms: int = 0
    repeat: Repeat = "no"
    code: str = ""


@dataclass(frozen=True)
class Fault:
    """A kind of fault."""

    name: str
    group: str
    help: str
    expects: str
    make: Callable[[Situation], list[Extra]]


def _duplicate_now(at: Situation) -> list[Extra]:
    return [Extra(at.value, at.event, repeat="same")]


def _duplicate_later(at: Situation) -> list[Extra]:
    due = at.event["event_time"] + at.upto(min(at.lateness_ms * 9 // 10, at.patience_ms))
    return [Extra(at.value, at.event, due_ms=due, repeat="same")]


def _duplicate_expired(at: Situation) -> list[Extra]:
    """Send an event that is nearly late already, and its bytes again when it is."""
    event = at.copy(event_time=at.event["event_time"] - at.lateness_ms * 19 // 20)
    value = at.wire.value(event)
    due = event["event_time"] + at.lateness_ms + 1 + at.roll % 1000
    return [Extra(value, event), Extra(value, event, due_ms=due, repeat="same")]


def _id_conflict(at: Situation) -> list[Extra]:
    event = {**at.event, "page": f"/changed/{at.roll % 1000}"}
    return [Extra(at.wire.value(event), event, repeat="other")]


def _out_of_order(at: Situation) -> list[Extra]:
    event = at.copy(event_time=at.event["event_time"] - at.upto(at.lateness_ms))
    return [Extra(at.wire.value(event), event)]


def _late(at: Situation) -> list[Extra]:
    event = at.copy(
        event_time=at.event["event_time"]
        - at.lateness_ms
        - (at.upto(600_000) if at.roll % 8 else 1)
    )
    return [Extra(at.wire.value(event), event)]


def _late_hours(at: Situation) -> list[Extra]:
    event = at.copy(
        event_time=at.event["event_time"] - at.lateness_ms - 3_600_000 * (1 + at.roll % 48)
    )
    return [Extra(at.wire.value(event), event)]


def _future(at: Situation) -> list[Extra]:
    event = at.copy(event_time=max(at.latest_ms, at.event["event_time"]) + DAY_MS)
    return [Extra(at.wire.value(event), event)]


def _future_2099(at: Situation) -> list[Extra]:
    event = at.copy(event_time=YEAR_2099_MS + at.roll % DAY_MS)
    return [Extra(at.wire.value(event), event)]


def _written(version: int, other_framing: bool) -> Callable[[Situation], list[Extra]]:
    def make(at: Situation) -> list[Extra]:
        event = at.copy() if version >= NEWEST else at.copy(app_version=None)
        framing = at.wire.other_framing if other_framing else at.wire.framing
        return [Extra(at.wire.value(event, version, framing), event)]

    return make


def _spoilt(spoil: Spoil, code: str) -> Callable[[Situation], list[Extra]]:
    def make(at: Situation) -> list[Extra]:
        event = at.copy()
        return [Extra(spoil(at.wire.header(), at.wire.body(event), at.roll), None, code=code)]

    return make


def _broken(change: Callable[[dict[str, Any], int], None]) -> Callable[[Situation], list[Extra]]:
    def make(at: Situation) -> list[Extra]:
        event = at.copy()
        change(event, at.roll)
        return [Extra(at.wire.value(event), event)]

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
        Fault(name, "corrupt", text, f"rejected {code}", _spoilt(spoil, code))
        for name, (code, spoil, text) in CORRUPTIONS.items()
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
# Records of a quarter of a megabyte and of ten thousand lines: a fiftieth of the others' share.
COSTLY = {"too_large": 0.02, "rule:TOO_MANY_ITEMS": 0.02}


def group_shares(group: str, share: float) -> dict[str, float]:
    """Spread a share evenly over the faults of a group."""
    names = [fault.name for fault in _ALL if fault.group == group]
    return {name: share / len(names) * COSTLY.get(name, 1.0) for name in names}


def expand(shares: Mapping[str, float]) -> dict[str, float]:
    """Replace the names of groups by those of their faults. Errors: KeyError for a name that is
    neither.
    """
    found: dict[str, float] = {}
    for name, share in shares.items():
        if name in GROUPS:
            found |= group_shares(name, share)
        else:
            found[FAULTS[name].name] = share
    return found
