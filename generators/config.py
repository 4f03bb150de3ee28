"""What a run is to do, and what it reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from generators.errors import ConfigError
from generators.faults.catalogue import expand
from generators.scenarios import SCENARIOS, Scenario
from generators.sending.schedule import SHAPES, Schedule

SINKS = ("kafka", "file", "stdout", "null")
FORMS = ("avro", "json")


@dataclass(frozen=True)
class Target:
    """Where to send.

    Shape: `path` belongs to the file sink, `form` to the file sink and stdout; `security` holds
    TLS and SASL settings by librdkafka's names.
    """

    sink: str = "kafka"
    bootstrap: str = ""
    security: Mapping[str, str] = field(default_factory=dict)
    topic: str = "raw.web"
    registry_url: str | None = None
    path: Path | None = None
    form: str = "avro"


@dataclass(frozen=True)
class Contract:
    """The settings of the pipeline that its verdicts depend on; the ledger must know them."""

    lateness: timedelta = timedelta(seconds=60)
    future_tolerance: timedelta = timedelta(seconds=10)
    query_cap: int = 10_000


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """Synthetic shoppers.

    Units: `rate` in healthy events per second of the wall clock; faults add to it.
    Time: `speed` is event seconds per wall second; 0 sends as fast as possible, with event time at
    the rate. Without `start` event time is now (speed 1), or ends now, so that nothing lies in the
    future.
    """

    target: Target
    scenario: str = "faults"
    rate: float = 1000.0
    duration_seconds: float = 30.0
    events: int | None = None
    seed: int = 1
    start: datetime | None = None
    speed: float = 1.0
    shape: str | None = None
    faults: Mapping[str, float] = field(default_factory=dict)
    contract: Contract = field(default_factory=Contract)
    ledger: Path | None = None
    visitors: int = 20_000
    products: int = 400

    def mixture(self) -> Scenario:
        """Resolve the scenario with this plan's own shape and faults.

        Errors: ConfigError for unknown names and for a share outside 0 to 1.
        """
        if self.scenario not in SCENARIOS:
            raise ConfigError(f"scenario {self.scenario}: unknown; one of {', '.join(SCENARIOS)}")
        scenario = SCENARIOS[self.scenario]
        shape = self.shape or scenario.shape
        if shape not in SHAPES:
            raise ConfigError(f"shape {shape}: unknown; one of {', '.join(SHAPES)}")
        try:
            shares = {**expand(scenario.faults), **expand(self.faults)}
        except KeyError as error:
            raise ConfigError(
                f"fault {error.args[0]}: unknown; see python -m generators scenarios --faults"
            ) from error
        for name, share in shares.items():
            if not 0.0 <= share <= 1.0:
                raise ConfigError(f"fault {name}: a share is between 0 and 1, not {share}")
        return Scenario(scenario.name, scenario.help, shape, shares)

    def schedule(self) -> Schedule:
        """Fix the arrival times.

        Errors: ConfigError for a rate or length that gives no events.
        """
        if not self.rate > 0 or not self.speed >= 0:
            raise ConfigError("rate must be above 0, and speed 0 or more")
        events = round(self.rate * self.duration_seconds) if self.events is None else self.events
        if events < 1:
            raise ConfigError(
                "there is nothing to send: raise the rate, the duration or the events"
            )
        seconds = self.duration_seconds if self.events is None else events / self.rate
        return Schedule.of(self.mixture().shape, events, seconds)


@dataclass(frozen=True, kw_only=True)
class ReplayPlan:
    """A real shop's invoices.

    Time: `speed` as in RunPlan; 0 sends as fast as possible.
    """

    target: Target
    source: Path
    speed: float = 0.0
    contract: Contract = field(default_factory=Contract)
    ledger: Path | None = None


@dataclass(frozen=True)
class Report:
    """What a run did.

    Shape: `counts` by outcome, or by outcome and code, when a ledger was kept; `first_offsets` and
    `next_offsets` by partition, where offsets were tracked.
    Units: `sent` in records, `healthy` in events.
    """

    sent: int
    healthy: int
    seconds: float
    behind_max_ms: float
    behind_p99_ms: float
    counts: Mapping[str, int]
    first_offsets: Mapping[int, int]
    next_offsets: Mapping[int, int]
    rejected_rows: int = 0
    rejected_file: Path | None = None

    @property
    def per_second(self) -> float:
        """Give records per second."""
        return self.sent / self.seconds if self.seconds else 0.0
