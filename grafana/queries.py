"""What panels and alerts query: SQL on TimescaleDB, or PromQL on Prometheus."""

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
    """Grafana's forms of a result: rows become series of time, or stay a table."""

    SERIES = "time_series"
    TABLE = "table"


class Column(StrEnum):
    """What a column of a result holds; a text of a series is its name or a label."""

    TIME = "time"
    TEXT = "text"
    NUMBER = "number"


@dataclass(frozen=True)
class Sql:
    """A query on TimescaleDB, with Grafana's macros and variables in it.

    Shape: `columns` are those of the result, in order; a series has `time` first, ascending.
    """

    text: str
    columns: Mapping[str, Column] = field(hash=False)
    format: Format = Format.SERIES
    ref: str = "A"

    def target(self) -> builder.Builder[variants.Dataquery]:
        """Give the query as the SDK takes it."""
        return _Built(SqlTarget(self.ref, self.text, self.format))


@dataclass(frozen=True)
class Prom:
    """A query on Prometheus: over the range, or with `instant` at its end.

    `legend` names a series from its labels.
    """

    expr: str
    legend: str = ""
    instant: bool = False
    heatmap: bool = False
    ref: str = "A"

    def target(self) -> builder.Builder[variants.Dataquery]:
        """Give the query as the SDK takes it."""
        query = (
            prometheus.Dataquery()
            .ref_id(self.ref)
            .expr(self.expr)
            .datasource(PROMETHEUS)
            .legend_format(self.legend or "__auto")
            .editor_mode(prometheus_models.QueryEditorMode.CODE)
        )
        if self.heatmap:
            query = query.format(prometheus_models.PromQueryFormat.HEATMAP)
        return query.instant() if self.instant else query.range()


Query = Sql | Prom


def series(text: str, *values: str, by: str | None = None, ref: str = "A") -> Sql:
    """Query series of time, one per value of the text `by` where it is given."""
    columns = (
        {"time": Column.TIME}
        | ({by: Column.TEXT} if by else {})
        | dict.fromkeys(values, Column.NUMBER)
    )
    return Sql(text, columns, Format.SERIES, ref)


def table(text: str, columns: Mapping[str, Column], ref: str = "A") -> Sql:
    """Query rows as they are."""
    return Sql(text, columns, Format.TABLE, ref)


def numbers(text: str, *values: str, ref: str = "A") -> Sql:
    """Query one row of numbers."""
    return Sql(text, dict.fromkeys(values, Column.NUMBER), Format.TABLE, ref)


class SqlTarget(variants.Dataquery):
    """The query model of Grafana's PostgreSQL datasource, which the SDK does not have."""

    def __init__(self, ref_id: str, raw_sql: str, format_val: str) -> None:
        self.ref_id, self.raw_sql, self.format_val = ref_id, raw_sql, format_val

    def to_json(self) -> dict[str, object]:
        """Write the model as the SDK's encoder expects it."""
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
        """Read the model back, for tests that load what was rendered."""
        return cls(data["refId"], data["rawSql"], data["format"])


class _Built(builder.Builder[variants.Dataquery]):
    """A builder of something that is built already."""

    def __init__(self, query: variants.Dataquery) -> None:
        self._query = query

    def build(self) -> variants.Dataquery:
        return self._query


runtime.register_dataquery_variant(
    runtime.DataqueryConfig(uids.TIMESCALE_TYPE, SqlTarget.from_json)
)
