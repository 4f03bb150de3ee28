"""Data quality: can the numbers be trusted, what was refused, and who sends it."""

from __future__ import annotations

from grafana import colours, thresholds, uids
from grafana.boards.accounting import (
    ACCOUNT,
    GOLD_BY_MINUTE,
    GOLD_RESIDUE,
    LOSSES,
    LOST,
    RESIDUE,
    UNSTORED,
)
from grafana.dashboard import Board
from grafana.panels import Bars, Chart, Grid, Panel, Stat, Style, Unit, Words, painted_all
from grafana.queries import Column, numbers, series, table
from grafana.ranges import TO, Source, points
from grafana.thresholds import Threshold

OUTCOMES = Source("quality.outcomes", ("outcome", "code", "records"), ("flow = 'clean'",))
REFUSED = Source("quality.outcomes", ("code", "records"), ("flow = 'clean'", "code <> ''"))
RULES = Source("quality.rules", ("rule", "dimension", "checked", "broken"))
TO_DEAD_LETTERS = ("Dead letters", f"/d/{uids.DEAD_LETTERS}?${{__url_time_range}}")
# read and counted in a tenth of a second; a storm of millions must not stop the board
MOST = 50_000


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
        (series(OUTCOMES.rate_over_time(value, title), title),),
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
        "Mean of the dimensions' scores; a dimension's score is the share of records that pass all"
        " of its rules",
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
            'SELECT time, avg(score) AS "Quality score" FROM scores GROUP BY 1 ORDER BY 1',
            "Quality score",
        ),
    ),
    Unit.RATIO,
    2,
    thresholds.QUALITY_SCORE,
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
PURCHASES = Panel(
    Words(
        "Purchases not counted",
        "Refused and late purchases that could be read; their worth is on the board Dead letters",
        "0",
        "no record was refused in this range",
    ),
    Stat("lastNotNull", sparkline=False),
    (
        numbers(
            # by the index of purchases: a storm can leave millions of letters
            "SELECT (SELECT count(*) FROM quality.dead_letters\n"
            "  WHERE event_type = 'PURCHASE' AND $__timeFilter(source_timestamp))"
            ' AS "Purchases"\n'
            "WHERE EXISTS (SELECT FROM quality.dead_letters"
            " WHERE $__timeFilter(source_timestamp))",
            "Purchases",
        ),
    ),
    Unit.WHOLE,
    0,
    thresholds.REFUSED_PURCHASES,
    link=TO_DEAD_LETTERS,
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
                (4, PURCHASES),
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
