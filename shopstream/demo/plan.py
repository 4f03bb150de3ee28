"""What a demo is asked for, and the generator's plan that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows.domain.errors import ConfigError
from flows.runtime.settings import Settings
from generators.config import Contract, ReplayPlan, RunPlan, Target


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """The options of the command line.

    Units: `rate` in events per second, `speed` in event seconds per second (0: as fast as it can).
    """

    rate: float
    duration_seconds: float
    scenario: str
    seed: int
    input: Path | None
    speed: float
    embedded: bool
    history_days: int
    junit: Path | None

    @property
    def title(self) -> str:
        """Name the run for the one who watches it."""
        if self.input is not None:
            return f"shopstream demo: {self.input.name}"
        return (
            f"shopstream demo: {self.scenario}, {self.rate:g} events/s for"
            f" {self.duration_seconds:g} s, seed {self.seed}"
        )


def plan_of(options: DemoOptions, settings: Settings, ledger: Path) -> RunPlan | ReplayPlan:
    """Make the generator's plan, and check it.

    Errors: ConfigError, also that of the generator.
    """
    if options.input is not None and not options.input.is_file():
        raise ConfigError(f"INPUT {options.input}: no such file")
    target = Target(
        bootstrap=settings.bootstrap,
        security=settings.kafka.security,
        topic=settings.topic("topic_raw_web"),
        registry_url=settings.registry,
    )
    contract = Contract(settings.allowed_lateness, settings.future_tolerance, settings.query_cap)
    if options.input is not None:
        return ReplayPlan(
            target=target,
            source=options.input,
            speed=options.speed,
            contract=contract,
            ledger=ledger,
        )
    plan = RunPlan(
        target=target,
        scenario=options.scenario,
        rate=options.rate,
        duration_seconds=options.duration_seconds,
        seed=options.seed,
        contract=contract,
        ledger=ledger,
    )
    plan.mixture(), plan.schedule()
    return plan
