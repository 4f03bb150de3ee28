"""Ready mixtures of shape and faults.

Units: a share is extra records per healthy event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scenario:
    """A shape of the load and the shares of faults or of groups of them."""

    name: str
    help: str
    shape: str = "constant"
    faults: Mapping[str, float] = field(default_factory=dict)


_SOME_OF_EACH = {"repeats": 0.01, "times": 0.01, "writers": 0.006, "corrupt": 0.01, "rules": 0.02}

_ALL = (
    Scenario(
        "smoke",
        "a quiet shop with a few repeats and late phones",
        faults={"repeats": 0.004, "times": 0.004},
    ),
    Scenario(
        "normal",
        "a healthy day: a little disorder, no breakage",
        faults={
            "out_of_order": 0.02,
            "duplicate_now": 0.002,
            "duplicate_later": 0.002,
            "late": 0.0005,
        },
    ),
    Scenario(
        "faults",
        "a little of everything that can go wrong (the demo's default)",
        faults=_SOME_OF_EACH,
    ),
    Scenario(
        "flash_sale",
        "twenty times the visitors for one product, with some faults",
        "flash_sale",
        {"repeats": 0.01, "out_of_order": 0.02, "late": 0.002},
    ),
    Scenario(
        "burst", "ten short bursts, with some faults", "burst", {"repeats": 0.01, "times": 0.01}
    ),
    Scenario(
        "ramp",
        "from a fifth of the rate to nine fifths",
        "ramp",
        {"repeats": 0.004, "times": 0.004},
    ),
    Scenario("sine", "a day's peak and trough", "sine", {"repeats": 0.004, "times": 0.004}),
    Scenario(
        "duplicate_storm",
        "a producer that retries everything",
        faults={
            "duplicate_now": 0.7,
            "duplicate_later": 0.3,
            "duplicate_expired": 0.02,
            "id_conflict": 0.01,
        },
    ),
    Scenario(
        "late_phones",
        "phones that were off for hours",
        faults={"late_hours": 0.1, "late": 0.1, "out_of_order": 0.2},
    ),
    Scenario("corrupt", "bytes that nobody can read", faults={"corrupt": 0.3}),
    Scenario("rules", "every rule broken", faults={"rules": 0.3}),
    Scenario(
        "schema_rollout",
        "old and new writers in both framings",
        faults={"schema_v1": 0.5, "other_framing": 0.3, "other_framing_v1": 0.2},
    ),
    Scenario("perf", "the healthy stream alone"),
)
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
