"""Data quality: can the numbers be trusted, what was refused, and who sends it."""

from __future__ import annotations

from grafana import colours, thresholds, uids
from grafana.dashboard import Board
from grafana.panels import Bars, Chart, Grid, Panel, Stat, Style, Unit, Words, painted_all
from grafana.queries import Column, numbers, series, table
from grafana.ranges import FROM, TO, Source, bucket, by_grain, in_points, to_the_minute
from grafana.thresholds import Threshold

OUTCOMES = Source("quality.outcomes", ("outcome", "code", "records"), ("flow = 'clean'",))
REFUSED = Source("quality.outcomes", ("code", "records"), ("flow = 'clean'", "code <> ''"))
RULES = Source("quality.rules", ("rule", "dimension", "checked", "broken"))
SCORES = (
    "SELECT {time}dimension,"
    " sum(checked - broken)::double precision / nullif(sum(checked), 0) AS score\n"
    "FROM {rows} GROUP BY {keys}"
)
TO_DEAD_LETTERS = ("Dead letters", f"/d/{uids.DEAD_LETTERS}?${{__url_time_range}}")
# read and counted in a tenth of a second; a storm of millions must not stop the board
MOST = 50_000
SETTLING_SECONDS = 180  # newer minutes may still be on their way to one of the two tables


def _settled(column: str) -> str:
    # whole minutes of the range's last six hours whose records have reached both tables
    since, until = (
        f"greatest({FROM}, {TO} - 21600) / 60 * 60",
        f"({TO} - {SETTLING_SECONDS}) / 60 * 60",
    )
    return f"{column} >= to_timestamp({since}) AND {column} < to_timestamp({until})"


def _of_all(condition: str) -> str:
    return (
        f"coalesce(sum(records) FILTER (WHERE {condition}), 0)::double precision"
        " / nullif(sum(records), 0)"
    )


def _share(title: str, about: str, condition: str, threshold: Threshold, healthy: str) -> Panel:
    value = _of_all(condition)
    rows = in_points(OUTCOMES)
    return Panel(
        Words(title, about, healthy, "no records in this range"),
        Stat("lastNotNull"),
        (
            series(
                f"WITH r AS (SELECT * FROM {rows})\n"
                f'SELECT {bucket()} AS time, {value} AS "{title}"\n'
                "FROM r GROUP BY 1\n"
                f"UNION ALL SELECT to_timestamp({TO}), {value} FROM r HAVING count(*) > 0\n"
                "ORDER BY 1",
                title,
            ),
            numbers(
                f'SELECT sum(records) FILTER (WHERE {condition}) AS "records"\n'
                f"FROM {to_the_minute(OUTCOMES)}\n"
                "HAVING count(*) > 0",
                "records",
                ref="B",
            ),
        ),
        Unit.RATIO,
        2,
        threshold,
        (Style(title), Style("records", unit=Unit.WHOLE, decimals=0, neutral=True)),
        TO_DEAD_LETTERS,
    )


OVERALL = Panel(
    Words(
        "Quality score",
        "Mean of the dimensions' scores; a dimension's score is passed checks of all its checks in"
        " the range",
        "above 99 %",
        "nothing was checked in this range",
    ),
    Stat("lastNotNull"),
    (
        series(
            f"WITH r AS (SELECT * FROM {in_points(RULES)})\n"
            'SELECT time, avg(score) AS "Quality score"\n'
            "FROM ("
            + SCORES.format(time=f"{bucket()} AS time, ", rows="r", keys="1, 2")
            + f") AS scores\nGROUP BY 1\nUNION ALL SELECT to_timestamp({TO}), avg(score) FROM ("
            + SCORES.format(time="", rows="r", keys="1")
            + ") AS whole HAVING count(*) > 0\nORDER BY 1",
            "Quality score",
        ),
    ),
    Unit.RATIO,
    2,
    thresholds.QUALITY_SCORE,
)
RESIDUE = Panel(
    Words(
        "Accounting residue",
        "Offsets that clean went past and told no outcome of, and refused records that differ from"
        " the stored dead letters, minute by minute over the range's last six hours",
        "0",
        "nothing was read in this range",
    ),
    Stat("lastNotNull", sparkline=False),
    (
        numbers(
            'SELECT sum(abs(residue)) AS "residue" FROM quality.residue_1m_by_partition\n'
            f"WHERE {_settled('window_start')} HAVING count(*) > 0",
            "residue",
        ),
        numbers(
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
            ' AS "refused, not stored"\n'
            "FROM counted FULL JOIN stored USING (window_start) HAVING count(*) > 0",
            "refused, not stored",
            ref="B",
        ),
    ),
    Unit.WHOLE,
    0,
    thresholds.RESIDUE_RECORDS,
    (Style("residue"), Style("refused, not stored")),
)

GOLD_RESIDUE = Panel(
    Words(
        "Gold residue",
        "Accepted events that are not in the numbers, or in them twice: over all time by what clean"
        " has numbered, and minute by minute over the range's last six hours",
        "0",
        "nothing was accepted yet",
    ),
    Stat("lastNotNull", sparkline=False),
    (
        numbers(
            'SELECT sum(abs(gold_residue)) AS "of all events" FROM ops.gold_account'
            " HAVING count(*) > 0",
            "of all events",
        ),
        numbers(
            'SELECT sum(abs(residue)) AS "by minute" FROM gold.residue_1m_by_partition\n'
            f"WHERE {_settled('window_start')} HAVING count(*) > 0",
            "by minute",
            ref="B",
        ),
    ),
    Unit.WHOLE,
    0,
    thresholds.RESIDUE_RECORDS,
    (Style("of all events"), Style("by minute")),
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
    Grid(sort=("Partition", False)),
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
    Grid(sort=("Found", True)),
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

DIMENSIONS = Panel(
    Words(
        "Score by dimension over time",
        "Passed checks as a share of all checks of the dimension; it has no point where nothing was"
        " checked",
        "every line above 99 %",
        "nothing was checked in this range",
    ),
    Chart(limits=True, legend_calcs=("lastNotNull", "min"), minimum=None, maximum=1, fill=0),
    (
        series(
            "SELECT window_start AS time, dimension AS metric,"
            " sum(checked - broken)::double precision / nullif(sum(checked), 0) AS value\n"
            f"FROM {by_grain(RULES)}\n"
            "GROUP BY 1, 2 ORDER BY 1, 2",
            "value",
            by="metric",
        ),
    ),
    Unit.RATIO,
    1,
    thresholds.QUALITY_SCORE,
    painted_all(colours.DIMENSIONS),
)
BY_DIMENSION = Panel(
    Words(
        "Score by dimension",
        "Passed checks of the range as a share of all checks of the dimension",
        "every bar above 99 %",
        "nothing was checked in this range",
    ),
    Bars(rows=True, maximum=1),
    (
        table(
            "SELECT dimension AS name, sum(checked - broken)::double precision"
            " / nullif(sum(checked), 0) AS value\n"
            f"FROM {to_the_minute(RULES)}\n"
            "GROUP BY 1 HAVING sum(checked) > 0 ORDER BY 2, 1",
            {"name": Column.TEXT, "value": Column.NUMBER},
        ),
    ),
    Unit.RATIO,
    2,
    thresholds.QUALITY_SCORE,
)
OUTCOMES_LINE = Panel(
    Words(
        "Outcomes over time",
        "Every record of raw.web by what became of it, by the time Kafka gave it",
        "nearly all accepted",
        "no records in this range",
    ),
    Chart(bars=True, stacked=True),
    (
        series(
            "SELECT window_start AS time, outcome AS metric, sum(records) AS value\n"
            f"FROM {by_grain(OUTCOMES)}\n"
            "GROUP BY 1, 2 ORDER BY 1, 2",
            "value",
            by="metric",
        ),
    ),
    Unit.WHOLE,
    styles=painted_all(colours.OUTCOMES),
)
CODES = Panel(
    Words(
        "Refused by code over time",
        "Rejected and late records by the code that says why",
        "no new colour and no rising bar",
        "nothing was refused in this range",
    ),
    Chart(bars=True, stacked=True),
    (
        series(
            "SELECT window_start AS time, code AS metric, sum(records) AS value\n"
            f"FROM {by_grain(REFUSED)}\n"
            "GROUP BY 1, 2 ORDER BY 1, 2",
            "value",
            by="metric",
        ),
    ),
    Unit.WHOLE,
    styles=painted_all(colours.CODES),
    link=TO_DEAD_LETTERS,
)
BROKEN = Panel(
    Words(
        "Rules by breakage",
        "How often each rule was broken in the range, the most broken first",
        "a share below 1 % in every row",
        "no rule was broken in this range",
    ),
    Grid(sort=("Broken", True)),
    (
        table(
            "SELECT rule, dimension, sum(broken) AS broken, sum(checked) AS checked,\n"
            "  sum(broken)::double precision / nullif(sum(checked), 0) AS share\n"
            f"FROM {to_the_minute(RULES)}\n"
            "GROUP BY 1, 2 HAVING sum(broken) > 0 ORDER BY 3 DESC, 1 LIMIT 40",
            {
                "rule": Column.TEXT,
                "dimension": Column.TEXT,
                "broken": Column.NUMBER,
                "checked": Column.NUMBER,
                "share": Column.NUMBER,
            },
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("rule", title="Rule"),
        Style("dimension", title="Dimension", width=130),
        Style("broken", title="Broken", width=90),
        Style("checked", title="Checked", width=110),
        Style(
            "share",
            title="Share",
            unit=Unit.RATIO,
            decimals=2,
            threshold=thresholds.REFUSED_SHARE,
            cell="color-text",
            width=90,
        ),
    ),
)
VERSIONS = Panel(
    Words(
        "Refused by app version",
        f"The range's newest {MOST:,} dead letters by the version of the app that sent them, and"
        " its commonest code; unreadable records name no version",
        "no version far above the others",
        "nothing was refused in this range",
    ),
    Grid(sort=("Refused", True)),
    (
        table(
            "WITH newest AS (SELECT coalesce(app_version, '(none)') AS version, code,"
            " source_timestamp FROM quality.dead_letters\n"
            "  WHERE flow = 'clean' AND $__timeFilter(source_timestamp)"
            f" ORDER BY source_timestamp DESC LIMIT {MOST}),\n"
            "pairs AS (SELECT version, code, count(*) AS refused, max(source_timestamp) AS newest"
            " FROM newest GROUP BY 1, 2)\n"
            "SELECT version, sum(refused) AS refused, sum(refused)::double precision"
            " / sum(sum(refused)) OVER () AS share,\n"
            "  (array_agg(code ORDER BY refused DESC, code))[1] AS code, max(newest) AS newest\n"
            "FROM pairs GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20",
            {
                "version": Column.TEXT,
                "refused": Column.NUMBER,
                "share": Column.NUMBER,
                "code": Column.TEXT,
                "newest": Column.TIME,
            },
        ),
    ),
    Unit.WHOLE,
    link=TO_DEAD_LETTERS,
    styles=(
        Style("version", title="App version"),
        Style("refused", title="Refused"),
        Style(
            "share",
            title="Of all refused",
            unit=Unit.RATIO,
            decimals=1,
            cell="gauge",
            colour=colours.ORANGE,
            maximum=1,
        ),
        Style("code", title="Commonest code"),
        Style("newest", title="Newest", unit=Unit.TIME),
    ),
)
SHARES = Panel(
    Words(
        "Refused, late and duplicate over time",
        "Each as a share of all records of raw.web; late ones are among the refused",
        "flat lines, refused below 1 %",
        "no records in this range",
    ),
    Chart(limits=True, legend_calcs=("lastNotNull", "max"), fill=0),
    (
        series(
            "SELECT window_start AS time,\n"
            + ",\n".join(
                f'  {_of_all(condition)} AS "{name}"'
                for name, condition in (
                    ("Refused", "outcome IN ('rejected', 'late')"),
                    ("Late", "outcome = 'late'"),
                    ("Duplicate", "outcome = 'duplicate'"),
                )
            )
            + f"\nFROM {by_grain(OUTCOMES)}\n"
            "GROUP BY 1 ORDER BY 1",
            "Refused",
            "Late",
            "Duplicate",
        ),
    ),
    Unit.RATIO,
    2,
    thresholds.REFUSED_SHARE,
    (
        Style("Refused", colours.OUTCOMES["rejected"]),
        Style("Late", colours.OUTCOMES["late"]),
        Style("Duplicate", colours.OUTCOMES["duplicate"]),
    ),
)

QUALITY = Board(
    uids.QUALITY,
    "Data quality",
    "Can the numbers be trusted: scores, accounting, what was refused and who sends it.",
    (
        (
            5,
            (
                (4, OVERALL),
                (4, RESIDUE),
                (
                    4,
                    _share(
                        "Accepted",
                        "Records that were trusted and counted, of all records of raw.web",
                        "outcome = 'accepted'",
                        thresholds.ACCEPTED_SHARE,
                        "above 95 %",
                    ),
                ),
                (
                    4,
                    _share(
                        "Refused",
                        "Records with a dead letter, late ones included, of all records of raw.web",
                        "outcome IN ('rejected', 'late')",
                        thresholds.REFUSED_SHARE,
                        "below 1 %",
                    ),
                ),
                (
                    4,
                    _share(
                        "Late",
                        "Records too far behind their partition to be counted, of all records of"
                        " raw.web",
                        "outcome = 'late'",
                        thresholds.LATE_SHARE,
                        "below 0.5 %",
                    ),
                ),
                (
                    4,
                    _share(
                        "Duplicates",
                        "Records whose event was known already, of all records of raw.web; they are"
                        " counted once",
                        "outcome = 'duplicate'",
                        thresholds.DUPLICATE_SHARE,
                        "below 5 %",
                    ),
                ),
            ),
        ),
        (9, ((6, BY_DIMENSION), (9, DIMENSIONS), (9, OUTCOMES_LINE))),
        (10, ((12, BROKEN), (12, CODES))),
        (9, ((12, VERSIONS), (12, SHARES))),
        (8, ((4, GOLD_RESIDUE), (20, ACCOUNT))),
        (7, ((24, LOSSES),)),
    ),
)
