"""Every setting, from the environment.

A wrong or misspelt one ends the start with exit code 2 and a line that names it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from difflib import get_close_matches
from functools import cached_property
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import AliasChoices, Field, ValidationError, create_model, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from flows.connectors.avro.contracts import family_names
from flows.connectors.kafka_cluster import Cluster
from flows.domain.errors import ConfigError

PREFIX = "SHOPSTREAM_"


def plain(name: str) -> AliasChoices:
    """Give a setting a name of its own, without our prefix."""
    return AliasChoices(name)


class Settings(BaseSettings):
    """What can be set, with defaults for one machine."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True)

    bootstrap: str = Field(
        "127.0.0.1:9092",
        validation_alias=plain("KAFKA_BOOTSTRAP_SERVERS"),
        min_length=1,
        description="Kafka brokers, host:port, comma between.",
    )
    kafka_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        "plaintext", description="How Kafka is spoken to: with TLS (ssl), with a login (sasl)."
    )
    kafka_ca_file: Path | None = Field(
        None, description="Certificates that Kafka's is checked by; without one, the system's."
    )
    kafka_certificate_file: Path | None = Field(
        None, description="Our own certificate, for a Kafka that asks clients for theirs."
    )
    kafka_key_file: Path | None = Field(None, description="The key of our certificate.")
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How the login is proved."
    )
    kafka_user: str | None = Field(None, min_length=1, description="The login.")
    kafka_password_file: Path | None = Field(None, description="File that holds its password.")
    database_url: str = Field(
        "postgresql://127.0.0.1:5432/shopstream",
        validation_alias=plain("DATABASE_URL"),
        pattern="^postgres(ql)?://",
        description="PostgreSQL, with or without TimescaleDB.",
    )
    database_password_file: Path | None = Field(
        None,
        validation_alias=plain("DATABASE_PASSWORD_FILE"),
        description="File that holds the password, for a DATABASE_URL without one.",
    )
    registry: str | None = Field(
        None,
        validation_alias=plain("SCHEMA_REGISTRY_URL"),
        pattern="^https?://",
        description="Schema registry; without one, ids are those of avro/confluent_ids.json.",
    )

    topic_dead_letters: str = Field("dead.letters", min_length=1, description="Refused records.")
    topic_tallies: str = Field("tallies", min_length=1, description="What clean counted.")
    group_prefix: str = Field(
        "shopstream", min_length=1, description="Consumer groups are <prefix>.<flow>."
    )

    allowed_lateness_seconds: float = Field(
        60, ge=0, le=86_400, description="How far behind the watermark an event may be."
    )
    future_tolerance_seconds: float = Field(
        10, ge=0, le=3_600, description="How far ahead of its Kafka timestamp."
    )
    max_record_bytes: int = Field(
        262_144, ge=100, le=1_000_000, description="A larger record is refused."
    )
    reject_budget_ratio: float = Field(
        0.95, gt=0, description="Stop when this share of a run is refused; above 1: never."
    )
    reject_budget_records: int = Field(
        10_000, ge=1, description="How long a run is, in records of one partition."
    )
    query_cap: int = Field(
        10_000, ge=1, description="Different searches kept per window, shop and partition."
    )

    session_gap_seconds: float = Field(
        1_800, ge=1, le=28_500, description="A pause of this length or more ends a session."
    )
    session_max_seconds: float = Field(
        86_400, ge=1, description="A session is cut when it is this old."
    )

    clean_form: Literal["event", "batch"] = Field(
        "event", description="clean.web: one event per record, or a batch of them."
    )
    kafka_edge: Literal["native", "client"] = Field(
        "native",
        description="How records reach librdkafka: by its C interface, or the slower client.",
    )
    kernels: Literal["on", "off"] = Field(
        "on", description="Compiled inner loops; off: the slower reference that they are held to."
    )
    batch_records: int = Field(20_000, ge=1, le=1_000_000, description="Most records of one poll.")
    poll_seconds: float = Field(
        0.03, gt=0, le=5, description="From poll to poll, while there is little to read."
    )
    epoch_seconds: float = Field(
        1.0, gt=0, le=60, description="Between commits, under `shopstream up`."
    )
    lost_records: Literal["fail", "continue"] = Field(
        "fail",
        description="When records are gone before they are read: stop, or tell it and go on.",
    )
    producer_timestamps: Literal["refuse", "trust"] = Field(
        "refuse", description="A raw topic whose producers stamp its records: refuse it or not."
    )
    ordinal: int = Field(0, ge=0, description="This process's number, of COUNT.")
    count: int = Field(1, ge=1, description="Processes that share the partitions.")
    retention_1m_days: int = Field(
        0, ge=0, description="Days that minutes are kept, of numbers and quality; 0: all."
    )
    retention_1h_days: int = Field(0, ge=0, description="Days that hours are kept; 0: all.")
    retention_1d_days: int = Field(0, ge=0, description="Days that days are kept; 0: all.")
    retention_dead_letters_days: int = Field(
        30, ge=0, description="Days that dead letters are kept; 0: all."
    )

    startup_seconds: float = Field(
        30, gt=0, description="How long to wait for broker and database at start."
    )

    telemetry_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description=(
            "Where a flow serves /metrics and /healthz; 0: nowhere. `shopstream up` counts its"
            " flows' from it, or from 9101."
        ),
    )
    telemetry_host: str = Field(
        "127.0.0.1", min_length=1, description="The address that it serves them at."
    )
    stall_seconds: float = Field(
        30, gt=0, description="/healthz is red after this long without progress while records wait."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="auto: text on a terminal, else json."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is logged."
    )
    build_commit: str | None = Field(
        None, description="The commit that runs, where there is no git to ask."
    )

    @field_validator("database_url")
    @classmethod
    def readable(cls, url: str) -> str:
        """Refuse a URL that psycopg cannot read."""
        try:
            conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise ValueError(f"is no connection URL: {str(error).splitlines()[0]}") from None
        return url

    @property
    def allowed_lateness(self) -> timedelta:
        """How far behind the watermark an event may be."""
        return timedelta(seconds=self.allowed_lateness_seconds)

    @property
    def future_tolerance(self) -> timedelta:
        """How far ahead of its Kafka timestamp an event may be."""
        return timedelta(seconds=self.future_tolerance_seconds)

    @cached_property
    def kafka(self) -> Cluster:
        """Where Kafka is, and how it lets us in.

        Errors: ConfigError for a file that cannot be read.
        """
        return Cluster(self.bootstrap, security_of(self))

    def topic(self, field: str) -> str:
        """Give the topic of a setting, such as `topic_raw_web`."""
        return str(getattr(self, field))

    def group(self, flow: str) -> str:
        """Name the consumer group of a flow."""
        return f"{self.group_prefix}.{flow}"


def _with_topics(base: type[Settings]) -> type[Settings]:
    """Add the two topics of every family."""
    topics = {
        f"topic_{stage}_{family}": (
            str,
            Field(f"{stage}.{family}", min_length=1, description=description),
        )
        for family in family_names()
        for stage, description in (
            ("raw", f"{family.capitalize()} events as they came."),
            ("clean", f"{family.capitalize()} events that were accepted."),
        )
    }
    # pydantic types its fields as keywords, and these are data
    complete: type[Settings] = create_model(  # type: ignore[call-overload]
        base.__name__, __base__=base, __module__=__name__, **topics
    )
    return complete


COMPLETE = _with_topics(Settings)
"""The settings with those that follow from the list of families."""
FIELDS = COMPLETE.model_fields


def environment_name(field: str) -> str:
    """Name the variable that sets a field."""
    alias = FIELDS[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else PREFIX + field.upper()


def load_settings() -> Settings:
    """Read the environment.

    Errors: ConfigError, one line per wrong setting.
    """
    lines = list(_misspelt())
    try:
        settings = COMPLETE()
    except ValidationError as error:
        raise ConfigError("\n".join([*lines, *_invalid(error)])) from None
    lines += _contradictions(settings)
    try:
        settings = with_password(settings)
        _ = settings.kafka
    except ConfigError as error:
        lines.append(str(error))
    if lines:
        raise ConfigError("\n".join(lines))
    return settings


def _misspelt() -> Iterator[str]:
    known = {environment_name(f) for f in FIELDS}
    for name in sorted(n for n in os.environ if n.startswith(PREFIX) and n not in known):
        near = get_close_matches(name, known, 1)
        yield f"{name} is no setting of ours" + (f"; did you mean {near[0]}?" if near else "")
    # Names without our prefix belong to others too, so only a near miss of one that is not set is
    # an error: 0.9 takes DATABSE_URL, and leaves DATABASE_PATH.
    for name in sorted(n for n in known - set(os.environ) if not n.startswith(PREFIX)):
        for other in get_close_matches(name, os.environ.keys() - known, 1, cutoff=0.9):
            yield f"{other} is no setting of ours; did you mean {name}?"


def _invalid(error: ValidationError) -> Iterator[str]:
    known = {environment_name(f) for f in FIELDS}
    for detail in error.errors():
        location = str(detail["loc"][0])
        name = location if location in known else environment_name(location)
        # the URL may hold a password
        value = "" if name == "DATABASE_URL" else f"={detail['input']!r}"
        yield f"{name}{value}: {detail['msg']}"


def _contradictions(settings: Settings) -> Iterator[str]:
    yield from _kafka_contradictions(settings)
    if settings.ordinal >= settings.count:
        yield f"{PREFIX}ORDINAL={settings.ordinal} must be below {PREFIX}COUNT={settings.count}"
    if settings.future_tolerance > settings.allowed_lateness:
        yield (
            f"{PREFIX}FUTURE_TOLERANCE_SECONDS={settings.future_tolerance_seconds:g} must not be"
            f" above {PREFIX}ALLOWED_LATENESS_SECONDS={settings.allowed_lateness_seconds:g}: one"
            " early event would make all others late"
        )
    if settings.session_max_seconds < settings.session_gap_seconds:
        yield (
            f"{PREFIX}SESSION_MAX_SECONDS={settings.session_max_seconds:g} must not be below"
            f" {PREFIX}SESSION_GAP_SECONDS={settings.session_gap_seconds:g}"
        )
    # Hours are counted from minutes, and days from hours, so the finer rows must not outlive the
    # coarser ones.
    retentions = [
        (environment_name(name), getattr(settings, name) or inf)
        for name in ("retention_1m_days", "retention_1h_days", "retention_1d_days")
    ]
    for (finer, days), (coarser, longer) in pairwise(retentions):
        if longer < days:
            least = "0 (all)" if days == inf else days
            yield f"{coarser}={longer} must not be below {finer}={least}"


def _kafka_contradictions(settings: Settings) -> Iterator[str]:
    protocol = f"{PREFIX}KAFKA_PROTOCOL={settings.kafka_protocol}"
    for name in ("kafka_user", "kafka_password_file"):
        is_set = getattr(settings, name) is not None
        if is_set != ("sasl" in settings.kafka_protocol):
            told = "has no effect" if is_set else "is wanted"
            yield f"{environment_name(name)} {told} with {protocol}"
    for name in ("kafka_ca_file", "kafka_certificate_file", "kafka_key_file"):
        if getattr(settings, name) is not None and "ssl" not in settings.kafka_protocol:
            yield f"{environment_name(name)} has no effect with {protocol}"
    if (settings.kafka_certificate_file is None) != (settings.kafka_key_file is None):
        yield f"{PREFIX}KAFKA_CERTIFICATE_FILE and {PREFIX}KAFKA_KEY_FILE go together"


def security_of(settings: Settings) -> dict[str, str]:
    """Give the TLS and SASL settings of a Kafka client; none for an open one.

    Errors: ConfigError for a file that cannot be read.
    """
    if settings.kafka_protocol == "plaintext":
        return {}
    security: dict[str, str] = {"security.protocol": settings.kafka_protocol}
    files = {
        "ssl.ca.location": "kafka_ca_file",
        "ssl.certificate.location": "kafka_certificate_file",
        "ssl.key.location": "kafka_key_file",
    }
    for name, setting in files.items():
        file: Path | None = getattr(settings, setting)
        if file is not None:
            if not file.is_file():
                raise ConfigError(f"{environment_name(setting)}={str(file)!r}: is no file")
            security[name] = str(file)
    if settings.kafka_password_file is not None:
        security |= {
            "sasl.mechanism": settings.kafka_mechanism,
            "sasl.username": settings.kafka_user or "",
            "sasl.password": read_secret(
                environment_name("kafka_password_file"), settings.kafka_password_file
            ),
        }
    return security


def with_password(settings: Settings) -> Settings:
    """Complete the URL from the password's file.

    Errors: ConfigError naming the variable, never the password.
    """
    # So a container gets its password without a variable, which `docker inspect` would show.
    file = settings.database_password_file
    if file is None:
        return settings
    if conninfo_to_dict(settings.database_url).get("password"):
        raise ConfigError(
            "DATABASE_PASSWORD_FILE: DATABASE_URL has a password already; set one of them"
        )
    password = read_secret("DATABASE_PASSWORD_FILE", file)
    separator = "&" if "?" in settings.database_url else "?"
    return settings.model_copy(
        update={
            "database_url": f"{settings.database_url}{separator}password={quote(password, safe='')}"
        }
    )


def read_secret(name: str, file: Path) -> str:
    """Read a secret of one line, with the line's end that editors and `echo` leave.

    Errors: ConfigError naming the variable or option.
    """
    try:
        secret = file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no text"
        raise ConfigError(f"{name}={str(file)!r}: cannot be read: {reason}") from None
    if not secret or len(secret.splitlines()) > 1:
        raise ConfigError(f"{name}={str(file)!r}: must hold one line, the password")
    return secret


def settings_or_exit() -> Settings:
    """Read the settings of a command; a wrong one ends it with a line on stderr, exit code 2."""
    try:
        return load_settings()
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(ConfigError.exit_code) from None
