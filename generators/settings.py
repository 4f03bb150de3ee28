"""What the generator takes from the environment: the flows' own settings, so that both judge by the
same terms.

This is the one place that knows flows/; the answer key shares no code with it
(test_the_answer_key_shares_no_code).
"""

from __future__ import annotations

from dataclasses import dataclass

from flows.runtime.settings import load_settings
from generators.answer_key.verdicts import MAX_RECORD_BYTES
from generators.config import Contract
from generators.errors import ConfigError


@dataclass(frozen=True)
class Surroundings:
    """Where the pipeline is and by what terms it judges."""

    bootstrap: str
    topic: str
    registry_url: str | None
    contract: Contract


def read_surroundings() -> Surroundings:
    """Read the settings. Errors: ConfigError naming the variable."""
    try:
        settings = load_settings()
    except Exception as error:  # the flows' ConfigError, which only flows/ may name
        raise ConfigError(str(error)) from error
    if settings.max_record_bytes != MAX_RECORD_BYTES:
        raise ConfigError(
            f"SHOPSTREAM_MAX_RECORD_BYTES={settings.max_record_bytes}: the answer key knows only"
            f" {MAX_RECORD_BYTES}"
        )
    return Surroundings(
        bootstrap=settings.bootstrap,
        topic=settings.topic("topic_raw_web"),
        registry_url=settings.registry,
        contract=Contract(settings.allowed_lateness, settings.future_tolerance, settings.query_cap),
    )
