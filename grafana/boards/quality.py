"""Data quality: can the numbers be trusted, what was refused, and who sends it."""

from __future__ import annotations

from grafana import colours, thresholds, uids
from grafana.dashboard import Board
from grafana.panels import Bars, Chart, Grid, Panel, Stat, Style, Unit, Words, painted_all
from grafana.queries import Column, numbers, series, table
from grafana.ranges import FROM, TO, Source, points
from grafana.thresholds import Threshold

OUTCOMES = Source("quality.outcomes", ("outcome", "code", "records"), ("flow = 'clean'",))
REFUSED = Source("quality.outcomes", ("code", "records"), ("flow = 'clean'", "code <> ''"))
RULES = Source("quality.rules", ("rule", "dimension", "checked", "broken"))
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
    return Panel(
        Words(title, about, healthy, "no records in this range"),
        Stat("lastNotNull"),
        (
            series(
                OUTCOMES.over_time(f'{value} AS "{title}"', whole=False).removesuffix(" ORDER BY 1")
                + f"\nUNION ALL SELECT to_timestamp({TO}), {value} FROM r HAVING count(*) > 0\n"
                "ORDER BY 1",
                title,
            ),
        ),
        Unit.RATIO,
        2,
        threshold,
        (Style(title),),
        TO_DEAD_LETTERS,
    )


def _records(title: str, about: str, condition: str) -> Panel:
    return Panel(
        Words(title, about, nothing="no records"),
        Stat("lastNotNull", sparkline=False),
        (
            numbers(
                f'SELECT coalesce(sum(records) FILTER (WHERE {condition}), 0) AS "{title}"\n'
                f"FROM {OUTCOMES.rows()}\nHAVING count(*) > 0",
                title,
            ),
        ),
        Unit.WHOLE,
        styles=(Style(title, colours.GREY, neutral=True),),
    )


# Of records, not of checks: 5 % refused by one of seventeen rules would be 99.7 % of the checks. A
# record that breaks two rules counts twice, so the true share is at least this.
PASSED = (
    "CASE WHEN max(checked) > 0"
    " THEN greatest(0, 1 - sum(broken)::double precision / max(checked)) END"
)
BY_RULE = (
    "SELECT {time}dimension, rule, sum(broken) AS broken, sum(checked) AS checked\n"
    "  FROM {rows} GROUP BY {keys}"
)
OVERALL = Panel(
    Words(
        "Quality score",
        "The worst dimension's score: at least this share of records passes all of its rules",
        "above 99 %",
        "nothing was checked in this range",
    ),
    Stat("lastNotNull"),
    (
        series(
            f"WITH r AS ({RULES.select()}),\n"
            "rules AS (" + BY_RULE.format(time="time, ", rows="r", keys="1, 2, 3") + "),\n"
            "whole AS (" + BY_RULE.format(time="", rows="r", keys="1, 2") + "),\n"
            f"scores AS (SELECT time, dimension, {PASSED} AS score FROM rules GROUP BY 1, 2\n"
            f"  UNION ALL SELECT to_timestamp({TO}), dimension, {PASSED} FROM whole GROUP BY 2)\n"
            'SELECT time, min(score) AS "Quality score" FROM scores GROUP BY 1 ORDER BY 1',
            "Quality score",
        ),
    ),
    Unit.RATIO,
    2,
    thresholds.QUALITY_SCORE,
)


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

DIMENSIONS = Panel(
    Words(
        "Score by dimension over time",
        "At least this share of records passes all rules of the dimension; no point where nothing"
        " was checked",
        "every line above 99 %",
        "nothing was checked in this range",
    ),
    Chart(limits=True, legend_calcs=("lastNotNull", "min"), minimum=None, maximum=1, fill=0),
    (
        series(
            f"WITH r AS ({RULES.select()}),\n"
            "rules AS (" + BY_RULE.format(time="time, ", rows="r", keys="1, 2, 3") + "),\n"
            "known AS (SELECT DISTINCT dimension FROM rules WHERE checked > 0)\n"
            f"SELECT time, dimension AS metric, {PASSED} AS value\n"
            f"FROM {points()} CROSS JOIN known LEFT JOIN rules USING (time, dimension)\n"
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
        "Broken per million, by dimension",
        "Of a million records, at most how many break a rule of the dimension",
        "every bar below 10,000",
        "nothing was checked in this range",
    ),
    Bars(rows=True),
    (
        table(
            "WITH rules AS (" + BY_RULE.format(time="", rows=RULES.rows(), keys="1, 2") + ")\n"
            "SELECT dimension AS name,"
            " 1e6 * sum(broken)::double precision / max(checked) AS value\n"
            "FROM rules GROUP BY 1 HAVING max(checked) > 0 ORDER BY 2 DESC, 1",
            {"name": Column.TEXT, "value": Column.NUMBER},
        ),
    ),
    Unit.WHOLE,
    0,
    thresholds.BROKEN_PER_MILLION,
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
            OUTCOMES.by_value("outcome", "coalesce(sum(records), 0)", "sum(records)"),
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
            REFUSED.by_value("code", "coalesce(sum(records), 0)", "sum(records)"),
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
    Grid(8, sort=("Broken", True)),
    (
        table(
            "SELECT rule, dimension, sum(broken) AS broken, sum(checked) AS checked,\n"
            "  sum(broken)::double precision / nullif(sum(checked), 0) AS share\n"
            f"FROM {RULES.rows()}\n"
            "GROUP BY 1, 2 HAVING sum(broken) > 0 ORDER BY 3 DESC, 1 LIMIT 8",
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
    Grid(7, sort=("Refused", True)),
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
            "FROM pairs GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 7",
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
            OUTCOMES.over_time(
                *(
                    f'\n  {_of_all(condition)} AS "{name}"'
                    for name, condition in (
                        ("Refused", "outcome IN ('rejected', 'late')"),
                        ("Late", "outcome = 'late'"),
                        ("Duplicate", "outcome = 'duplicate'"),
                    )
                )
            ),
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

UNCOUNTED = _records(
    "Records not counted",
    "Records of raw.web that are refused or late: they are in no number of the other boards",
    "outcome IN ('rejected', 'late')",
)
NOT_COUNTED_SHARE = _share(
    "Share not counted",
    "Refused and late records as a share of all records of raw.web",
    "outcome IN ('rejected', 'late')",
    thresholds.REFUSED_SHARE,
    "below 1 %",
)
ACCEPTED = _share(
    "Accepted",
    "Records that were trusted and counted, of all records of raw.web",
    "outcome = 'accepted'",
    thresholds.ACCEPTED_SHARE,
    "above 95 %",
)
LATE = _share(
    "Late",
    "Records too far behind their partition to be counted, of all records of raw.web",
    "outcome = 'late'",
    thresholds.LATE_SHARE,
    "below 0.5 %",
)
DUPLICATES = _share(
    "Duplicates",
    "Records whose event was known already, of all records of raw.web; they are counted once",
    "outcome = 'duplicate'",
    thresholds.DUPLICATE_SHARE,
    "below 5 %",
)

QUALITY = Board(
    uids.QUALITY,
    "Data quality",
    "Can the numbers be trusted: scores, accounting, what was refused and who sends it.",
    (
        (
            4,
            (
                (4, UNCOUNTED),
                (4, NOT_COUNTED_SHARE),
                (4, OVERALL),
                (4, GOLD_RESIDUE),
                (4, RESIDUE),
                (4, LOST),
            ),
        ),
        (
            4,
            (
                (4, ACCEPTED),
                (5, LATE),
                (5, DUPLICATES),
                (5, GOLD_BY_MINUTE),
                (5, UNSTORED),
            ),
        ),
        (7, ((6, BY_DIMENSION), (9, DIMENSIONS), (9, OUTCOMES_LINE))),
        (10, ((12, BROKEN), (12, CODES))),
        (9, ((12, VERSIONS), (12, SHARES))),
        (8, ((24, ACCOUNT),)),
        (6, ((24, LOSSES),)),
    ),
)
