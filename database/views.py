"""The views that people and panels read: one per metric and grain."""

from __future__ import annotations

import psycopg
from psycopg import sql

from flows.connectors.postgres import identifier
from flows.domain.families import CATALOGUE
from flows.domain.metrics import MetricTable
from flows.domain.rollups import GOLD_ROLLUPS, Grain, Rollup, rolled, stem
from flows.domain.tables import GOLD

# In this order, so that the function is not called for real rows; and no sub-select, whose share of
# rows the planner could only guess.
SHOWN = sql.SQL("(partition >= 0 OR ops.shows_synthetic())")


def create_views(db: psycopg.Connection) -> None:
    """Create or replace the views of every metric: its minutes, hours and days."""
    for metric in CATALOGUE:
        replace_view(db, metric.name, minutes_of(metric))
        for grain in (Grain.HOUR, Grain.DAY):
            coarse = rolled(metric, grain)
            replace_view(
                db, coarse.name, rollup_of(coarse, GOLD_ROLLUPS[f"{stem(metric.name)}_{grain}"])
            )


def keys_of(metric: MetricTable) -> sql.Composed:
    """Compose the key columns of a view."""
    return sql.SQL(", ").join(map(sql.Identifier, ("window_start", *(d.name for d in metric.by))))


def measures_of(metric: MetricTable) -> sql.Composed:
    """Compose the measures of a view: sums as they are, formulas computed."""
    return sql.SQL(", ").join(
        (
            sql.Identifier(m.name)
            if m.formula is None
            else sql.SQL("{} AS {}").format(sql.SQL(m.formula), sql.Identifier(m.name))
        )
        for m in metric.measures
    )


def minutes_of(metric: MetricTable) -> sql.Composed:
    """Compose the view of minutes, which sums over partitions."""
    keys = keys_of(metric)
    sums = sql.SQL(", ").join(
        sql.SQL("sum({0})::bigint AS {0}").format(sql.Identifier(m.name)) for m in metric.stored
    )
    return sql.SQL(
        "SELECT {keys}, {names} FROM (SELECT {keys}, {sums} FROM {table} WHERE {shown} GROUP BY"
        " {keys}) AS summed"
    ).format(
        keys=keys,
        names=measures_of(metric),
        sums=sums,
        table=identifier(GOLD[metric.name].name),
        shown=SHOWN,
    )


def rollup_of(metric: MetricTable, rollup: Rollup) -> sql.Composed:
    """Compose the view of hours or days, which shows rows as they are stored.

    Partitions are summed already, and summing again would double the time that a panel waits. In an
    hour that has both, synthetic rows stand beside the real ones.
    """
    return sql.SQL("SELECT {}, {} FROM {} WHERE {}").format(
        keys_of(metric), measures_of(metric), identifier(rollup.table.name), SHOWN
    )


def replace_view(db: psycopg.Connection, view: str, query: sql.Composed) -> None:
    """Create or replace a gold view, also where its columns moved."""
    name = identifier(f"gold.{view}")
    try:
        with db.transaction():
            db.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS {}").format(name, query))
    except psycopg.errors.InvalidTableDefinition:
        # PostgreSQL replaces a view only while its columns keep their places
        db.execute(sql.SQL("DROP VIEW {}").format(name))
        db.execute(sql.SQL("CREATE VIEW {} AS {}").format(name, query))
