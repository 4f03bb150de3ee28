"""What the runbook says of false alarms is what was recorded, of the rules and faults of today."""

from __future__ import annotations

import json

from tools.alarms.__main__ import RESULTS, broken
from tools.alarms.shops import FAULTS, SHOPS
from tools.alarms.simulate import RULES


def test_the_recorded_month_is_of_todays_rules_and_keeps_its_bounds() -> None:
    known = json.loads(RESULTS.read_text())
    assert known["days"] >= 30
    assert known["false_alarms"].keys() == RULES.keys()
    assert all(list(by) == [s.name for s in SHOPS] for by in known["false_alarms"].values())
    assert {(f["rule"], f["shop"], f["what"], f["within_minutes"]) for f in known["faults"]} == {
        (f.rule, f.shop, f.what, f.within.total_seconds() / 60) for f in FAULTS
    }
    assert broken(known["false_alarms"], known["faults"]) == []


def test_a_bound_that_is_not_kept_is_named() -> None:
    fault = {"rule": "late-share", "shop": "big", "what": "late", "within_minutes": 30}
    assert broken({"freshness": {"small": ["a", "b"], "big": ["a"]}}, []) == [
        "freshness, small: 2 false alarms"
    ]
    assert broken({}, [fault | {"found_minutes": 30}]) == []
    for found in (None, 31):
        assert broken({}, [fault | {"found_minutes": found}]) == [
            f"late-share, big late: found after {found} minutes"
        ]
