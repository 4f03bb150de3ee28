"""What a panel asks: SQL of TimescaleDB, or PromQL of Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog import builder, runtime, variants
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models import prometheus as prometheus_models

from grafana import uids

TIMESCALE = dashboard.DataSourceRef(uids.TIMESCALE_TYPE, uids.TIMESCALE)
PROMETHEUS = dashboard.DataSourceRef(uids.PROMETHEUS_TYPE, uids.PROMETHEUS)


class Format(StrEnum):
    SERIES = "time_series"
    TABLE = "table"


class Column(StrEnum):
    TIME = "time"
    TEXT = "text"
    NUMBER = "number"


@dataclass(frozen=True)
class Sql:
    """Shape: `columns` is what comes back, in order; a series has `time` first, ascending."""

    text: str
    columns: Mapping[str, Column] = field(hash=False)
    format: Format = Format.SERIES
    ref: str = "A"

    def target(self) -> builder.Builder[variants.Dataquery]:
        return Ready(SqlTarget(self.ref, self.text, self.format))


@dataclass(frozen=True)
class Prom:
    """`legend` names a series from its labels; `instant` asks for the value now."""

    expr: str
    legend: str = ""
    instant: bool = False
    heatmap: bool = False
    ref: str = "A"

    def target(self) -> builder.Builder[variants.Dataquery]:
        made = prometheus.Dataquery().ref_id(self.ref).expr(self.expr).datasource(PROMETHEUS)
        made = made.legend_format(self.legend or "__auto").editor_mode(
            prometheus_models.QueryEditorMode.CODE
        )
        if self.heatmap:
            made = made.format(prometheus_models.PromQueryFormat.HEATMAP)
        return made.instant() if self.instant else made.range()


Query = Sql | Prom


def series(text: str, *values: str, by: str | None = None, ref: str = "A") -> Sql:
    """A query of time, perhaps a text that names the series, and numbers."""
    columns = (
        {"time": Column.TIME}
        | ({by: Column.TEXT} if by else {})
        | dict.fromkeys(values, Column.NUMBER)
    )
    return Sql(text, columns, Format.SERIES, ref)


def table(text: str, columns: Mapping[str, Column], ref: str = "A") -> Sql:
    return Sql(text, columns, Format.TABLE, ref)


def numbers(text: str, *values: str, ref: str = "A") -> Sql:
    """A row of numbers."""
    return Sql(text, dict.fromkeys(values, Column.NUMBER), Format.TABLE, ref)


class SqlTarget(variants.Dataquery):
    """The query model of Grafana's PostgreSQL datasource, which the SDK does not have."""

    def __init__(self, ref_id: str, raw_sql: str, format_val: str) -> None:
        self.ref_id, self.raw_sql, self.format_val = ref_id, raw_sql, format_val

    def to_json(self) -> dict[str, object]:
        return {
            "refId": self.ref_id,
            "datasource": TIMESCALE,
            "editorMode": "code",
            "rawQuery": True,
            "format": str(self.format_val),
            "rawSql": self.raw_sql,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(data["refId"], data["rawSql"], data["format"])


class Ready(builder.Builder[variants.Dataquery]):
    """Something that is built already, where a builder is asked for."""

    def __init__(self, made: variants.Dataquery) -> None:
        self._made = made

    def build(self) -> variants.Dataquery:
        return self._made


runtime.register_dataquery_variant(
    runtime.DataqueryConfig(uids.TIMESCALE_TYPE, SqlTarget.from_json)
)
