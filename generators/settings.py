"""What the generator takes from the environment: the flows' own settings, so both judge alike.

Beside errors.py this is the only module that imports flows/ (test_the_answer_key_shares_no_code).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flows.runtime.settings import load_settings
from generators.answer_key.verdicts import MAX_RECORD_BYTES
from generators.config import Contract
from generators.errors import ConfigError


@dataclass(frozen=True)
class PipelineSettings:
    """Where the pipeline is, how Kafka lets a client in, and by what terms it judges."""

    bootstrap: str
    security: Mapping[str, str]
    topic: str
    registry_url: str | None
    contract: Contract


def read_pipeline_settings() -> PipelineSettings:
    """Read the settings.

    Errors: ConfigError naming the variable.
    """
    settings = load_settings()
    if settings.max_record_bytes != MAX_RECORD_BYTES:
        raise ConfigError(
            f"SHOPSTREAM_MAX_RECORD_BYTES={settings.max_record_bytes}: the answer key knows only"
            f" {MAX_RECORD_BYTES}"
        )
    return PipelineSettings(
        bootstrap=settings.bootstrap,
        security=settings.kafka.security,
        topic=settings.topic("topic_raw_web"),
        registry_url=settings.registry,
        contract=Contract(settings.allowed_lateness, settings.future_tolerance, settings.query_cap),
    )
