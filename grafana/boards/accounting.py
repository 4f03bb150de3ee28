"""The account of every record, for the board Data quality: all is told, and counted once."""

from __future__ import annotations

from grafana import thresholds
from grafana.panels import Grid, Panel, Stat, Style, Unit, Words
from grafana.queries import Column, numbers, table
from grafana.ranges import FROM, TO

SETTLING_SECONDS = 180  # newer minutes may still be on their way to one of the two tables


def _settled(column: str) -> str:
    # whole minutes of the range's last six hours whose records have reached both tables
    since, until = (
        f"greatest({FROM}, {TO} - 21600) / 60 * 60",
        f"({TO} - {SETTLING_SECONDS}) / 60 * 60",
    )
    return f"{column} >= to_timestamp({since}) AND {column} < to_timestamp({until})"


def _residue(title: str, about: str, text: str, nothing: str) -> Panel:
    return Panel(
        Words(title, about, "0", nothing),
        Stat("lastNotNull", sparkline=False),
        (numbers(text, title),),
        Unit.WHOLE,
        0,
        thresholds.RESIDUE_RECORDS,
        (Style(title),),
    )


RESIDUE = _residue(
    "Accounting residue",
    "Offsets that clean went past and told no outcome of, minute by minute over the range's last"
    " six hours",
    'SELECT sum(abs(residue)) AS "Accounting residue" FROM quality.residue_1m_by_partition\n'
    f"WHERE {_settled('window_start')} HAVING count(*) > 0",
    "nothing was read in this range",
)
UNSTORED = _residue(
    "Refused, not stored",
    "Refused records that differ from the stored dead letters, minute by minute over the range's"
    " last six hours",
    "WITH counted AS (SELECT window_start, sum(records) AS records"
    " FROM quality.outcomes_1m_by_partition\n"
    "  WHERE flow = 'clean' AND outcome IN ('rejected', 'late')"
    f" AND partition >= 0 AND {_settled('window_start')}\n"
    "  GROUP BY 1),\n"
    "stored AS (SELECT date_bin('1 minute', source_timestamp, to_timestamp(0))"
    " AS window_start, count(*) AS records\n"
    # synthetic rows have partition -1 and no dead letters
    "  FROM quality.dead_letters WHERE flow = 'clean' AND source_partition >= 0"
    f" AND {_settled('source_timestamp')}\n"
    "  GROUP BY 1)\n"
    "SELECT sum(abs(coalesce(counted.records, 0) - coalesce(stored.records, 0)))"
    ' AS "Refused, not stored"\n'
    "FROM counted FULL JOIN stored USING (window_start) HAVING count(*) > 0",
    "nothing was refused",
)
GOLD_RESIDUE = _residue(
    "Gold residue",
    "Accepted events that are not in the numbers, or in them twice, over all time by what clean has"
    " numbered",
    'SELECT sum(abs(gold_residue)) AS "Gold residue" FROM ops.gold_account HAVING count(*) > 0',
    "nothing was accepted yet",
)
GOLD_BY_MINUTE = _residue(
    "Gold residue by minute",
    "The same minute by minute, over the range's last six hours",
    'SELECT sum(abs(residue)) AS "Gold residue by minute" FROM gold.residue_1m_by_partition\n'
    f"WHERE {_settled('window_start')} HAVING count(*) > 0",
    "nothing was accepted",
)
LOST = Panel(
    Words(
        "Lost offsets",
        "Records that were gone before a flow had read them, ever: the ledger below lists them",
        "0",
        "nothing was ever lost",
    ),
    Stat("lastNotNull", sparkline=False),
    (
        numbers(
            'SELECT sum(records) AS "Lost offsets" FROM ops.losses HAVING count(*) > 0',
            "Lost offsets",
        ),
    ),
    Unit.WHOLE,
    0,
    thresholds.LOST_RECORDS,
    (Style("Lost offsets"),),
)
ACCOUNT = Panel(
    Words(
        "What became of every record",
        "By partition, the range's last six hours: read = accepted + duplicate + late + rejected +"
        " lost + control (markers of transactions, aborted records), else there is a residue; over"
        " all time, accepted = counted + missed + in flight, else gold has one",
        "both residues 0 in every row",
        "nothing was read in this range",
    ),
    Grid(6, sort=("Partition", False)),
    (
        table(
            "WITH told AS (SELECT window_start, source_topic, partition,\n"
            "  sum(records) FILTER (WHERE outcome = 'accepted') AS accepted,\n"
            "  sum(records) FILTER (WHERE outcome = 'duplicate') AS duplicate,\n"
            "  sum(records) FILTER (WHERE outcome = 'late') AS late,\n"
            "  sum(records) FILTER (WHERE outcome = 'rejected') AS rejected\n"
            "  FROM quality.outcomes_1m_by_partition\n"
            f"  WHERE flow = 'clean' AND {_settled('window_start')} GROUP BY 1, 2, 3)\n"
            "SELECT source_topic AS topic, partition, sum(passed.offsets) AS read,\n"
            "  coalesce(sum(told.accepted), 0) AS accepted,"
            " coalesce(sum(told.duplicate), 0) AS duplicate,\n"
            "  coalesce(sum(told.late), 0) AS late, coalesce(sum(told.rejected), 0) AS rejected,\n"
            "  sum(passed.lost) AS lost, sum(passed.control) AS control,\n"
            "  sum(passed.offsets - passed.lost - passed.control - coalesce(told.accepted, 0)\n"
            "    - coalesce(told.duplicate, 0) - coalesce(told.late, 0)"
            " - coalesce(told.rejected, 0)) AS residue,\n"
            "  max(gold.counted) AS counted, max(gold.missed) AS missed,\n"
            "  max(gold.in_flight) AS flying, max(gold.gold_residue) AS gold\n"
            "FROM quality.offsets_1m_by_partition AS passed\n"
            "LEFT JOIN told USING (window_start, source_topic, partition)\n"
            "LEFT JOIN ops.gold_account AS gold USING (source_topic, partition)\n"
            f"WHERE partition >= 0 AND {_settled('passed.window_start')}\n"
            "GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 100",
            {
                "topic": Column.TEXT,
                "partition": Column.NUMBER,
                **dict.fromkeys(
                    (
                        "read",
                        "accepted",
                        "duplicate",
                        "late",
                        "rejected",
                        "lost",
                        "control",
                        "residue",
                        "counted",
                        "missed",
                        "flying",
                        "gold",
                    ),
                    Column.NUMBER,
                ),
            },
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("topic", title="Topic"),
        Style("partition", title="Partition", width=90),
        Style("read", title="Read"),
        Style("accepted", title="Accepted"),
        Style("duplicate", title="Duplicate"),
        Style("late", title="Late"),
        Style("rejected", title="Rejected"),
        Style("lost", title="Lost", threshold=thresholds.LOST_RECORDS, cell="color-text"),
        Style("control", title="Control"),
        Style("residue", title="Residue", threshold=thresholds.RESIDUE_RECORDS, cell="color-text"),
        Style("counted", title="Counted, ever"),
        Style("missed", title="Missed, ever"),
        Style("flying", title="In flight"),
        Style(
            "gold", title="Gold residue", threshold=thresholds.RESIDUE_RECORDS, cell="color-text"
        ),
    ),
)
LOSSES = Panel(
    Words(
        "Ledger of losses",
        "Records that were gone before a flow had read them, the newest first, whatever the range",
        "empty",
        "nothing was ever lost",
    ),
    Grid(3, sort=("Found", True)),
    (
        table(
            "SELECT found_at, flow, topic, partition, from_offset, to_offset, records, why\n"
            "FROM ops.losses ORDER BY found_at DESC LIMIT 50",
            {
                "found_at": Column.TIME,
                "flow": Column.TEXT,
                "topic": Column.TEXT,
                "partition": Column.NUMBER,
                "from_offset": Column.NUMBER,
                "to_offset": Column.NUMBER,
                "records": Column.NUMBER,
                "why": Column.TEXT,
            },
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("found_at", title="Found"),
        Style("flow", title="Flow", width=110),
        Style("topic", title="Topic"),
        Style("partition", title="Partition", width=90),
        Style("from_offset", title="From offset"),
        Style("to_offset", title="To before"),
        Style("records", title="Records", threshold=thresholds.LOST_RECORDS, cell="color-text"),
        Style("why", title="Why"),
    ),
)
