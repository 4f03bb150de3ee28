"""Dead letters: what was refused, why, since when and by whose release, down to the record."""

from __future__ import annotations

from grafana import colours, thresholds, uids
from grafana.dashboard import Board, Variable, choices
from grafana.panels import Bars, Chart, Grid, Panel, Prose, Stat, Style, Unit, Words, painted_all
from grafana.queries import Column, numbers, series, table
from grafana.ranges import FROM, Source

REFUSED = "code <> ''"
CODE = Variable(
    "code",
    "code",
    "Code",
    choices("quality.outcomes", "code", where=REFUSED),
)
COUNTED = Source("quality.outcomes", ("flow", "code", "records"), (REFUSED, CODE.condition))
JUDGED = Source("quality.outcomes", ("code", "records"), ("flow = 'clean'",))
REFUSED_RECORDS = f"coalesce(sum(records) FILTER (WHERE code <> '' AND {CODE.condition}), 0)"
STORED = f"quality.dead_letters\nWHERE $__timeFilter(source_timestamp) AND {CODE.condition}"
# read and counted in a tenth of a second; a storm of millions must not stop the board
MOST = 50_000
NOTHING = "nothing was refused in this range"

TOTAL = Panel(
    Words(
        "Dead letters",
        "Records of the range that were refused, by what clean counted",
        nothing=NOTHING,
    ),
    Stat("sum"),
    (
        series(
            COUNTED.over_time('coalesce(sum(records), 0) AS "Dead letters"', whole=False),
            "Dead letters",
        ),
    ),
    Unit.WHOLE,
    styles=(Style("Dead letters", colours.OUTCOMES["rejected"], neutral=True),),
)
SHARE = Panel(
    Words(
        "Share of all records",
        "Dead letters of the range as a share of the records that clean read",
        "below 1 %",
        "no records in this range",
    ),
    Stat("lastNotNull"),
    (
        series(
            JUDGED.rate_over_time(
                f"{REFUSED_RECORDS}::double precision / nullif(sum(records), 0)", "Share"
            ),
            "Share",
        ),
    ),
    Unit.RATIO,
    2,
    thresholds.REFUSED_SHARE,
)
OLDEST = Panel(
    Words(
        "Oldest",
        "Age of the oldest dead letter that is stored, whatever the range: what is fixed should be"
        " replayed, then dropped",
        "below a day",
        "no dead letters are stored",
    ),
    Stat("lastNotNull", sparkline=False),
    (
        numbers(
            "SELECT extract(epoch FROM now() - min(source_timestamp))::double precision"
            ' AS "oldest"\n'
            "FROM quality.dead_letters\n"
            f"WHERE {CODE.condition} HAVING count(*) > 0",
            "oldest",
        ),
    ),
    Unit.SECONDS,
    1,
    thresholds.DEAD_LETTER_AGE_SECONDS,
)
NEW_CODES = Panel(
    Words(
        "New codes",
        "Codes of the range that were not seen in the seven days before it: a new kind of breakage",
        "0",
        NOTHING,
    ),
    Stat("lastNotNull", sparkline=False),
    (
        numbers(
            f"WITH now AS (SELECT DISTINCT code FROM {COUNTED.rows()}),\n"
            "before AS (SELECT DISTINCT code FROM quality.outcomes_1h\n"
            f"  WHERE window_start >= to_timestamp({FROM} - 7 * 86400)"
            f" AND window_start < to_timestamp({FROM} / 3600 * 3600)\n"
            "    AND code <> '')\n"
            'SELECT count(*) FILTER (WHERE before.code IS NULL) AS "new codes"\n'
            "FROM now LEFT JOIN before USING (code) HAVING count(*) > 0",
            "new codes",
        ),
    ),
    Unit.WHOLE,
    0,
    thresholds.NEW_CODES,
    (Style("new codes"),),
)


def _stacked(title: str, about: str, column: str, tones: dict[str, str], healthy: str) -> Panel:
    return Panel(
        Words(title, about, healthy, NOTHING),
        Chart(bars=True, stacked=True),
        (
            series(
                COUNTED.by_value(column, "coalesce(sum(records), 0)", "sum(records)"),
                "value",
                by="metric",
            ),
        ),
        Unit.WHOLE,
        styles=painted_all(tones),
    )


BY_CODE = _stacked(
    "By code",
    "Refused records over time by the code that says why",
    "code",
    colours.CODES,
    "no rising bar and no new colour",
)
CODES = Panel(
    Words("Codes", "Refused records of the range by code, the commonest first", nothing=NOTHING),
    Bars(rows=True),
    (
        table(
            "SELECT code AS name, sum(records) AS value\n"
            f"FROM {COUNTED.rows()}\n"
            "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 12",
            {"name": Column.TEXT, "value": Column.NUMBER},
        ),
    ),
    Unit.WHOLE,
    styles=painted_all(colours.CODES),
)
SEEN = Panel(
    Words(
        "Since when, by code",
        "The first and the last hour in which a code was given, and how often, whatever the range",
        nothing="nothing was ever refused",
    ),
    Grid(8, sort=("Last hour", True)),
    (
        table(
            # of hours, for there are few: dead letters can be millions
            "SELECT code, min(window_start) AS first, max(window_start) AS last,"
            " sum(records) AS refused\n"
            f"FROM quality.outcomes_1h WHERE {REFUSED} AND {CODE.condition}\n"
            "GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 20",
            {
                "code": Column.TEXT,
                "first": Column.TIME,
                "last": Column.TIME,
                "refused": Column.NUMBER,
            },
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("code", title="Code", width=120),
        Style("first", title="First hour", unit=Unit.TIME),
        Style("last", title="Last hour", unit=Unit.TIME),
        Style("refused", title="Refused", width=75),
    ),
)
PURCHASES = Panel(
    Words(
        "Refused purchases",
        "Purchases among the range's dead letters that could be read, and their price times"
        " quantity, which is in no number",
        "an empty table",
        "no purchase was refused in this range",
    ),
    Grid(5),
    (
        table(
            "SELECT coalesce(nullif(amount_currency, ''), '(none)') AS currency,"
            " count(*) AS purchases,\n"
            "  gold.in_major(sum(amount_minor), amount_currency) AS worth,"
            " max(source_timestamp) AS last\n"
            f"FROM {STORED} AND event_type = 'PURCHASE'\n"
            "GROUP BY amount_currency ORDER BY 2 DESC, 1 LIMIT 20",
            {
                "currency": Column.TEXT,
                "purchases": Column.NUMBER,
                "worth": Column.NUMBER,
                "last": Column.TIME,
            },
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("currency", title="Currency", width=80),
        Style("purchases", title="Purchases", width=90),
        Style("worth", title="Worth", decimals=2),
        Style("last", title="Last", unit=Unit.TIME, width=150),
    ),
)
VERSIONS = Panel(
    Words(
        "By producer version",
        f"The range's newest {MOST:,} dead letters by the app version that sent them;"
        " unreadable ones name none",
        "no version far above the others",
        NOTHING,
    ),
    Bars(rows=True),
    (
        table(
            "SELECT coalesce(app_version, '(none)') AS name, count(*) AS value\n"
            f"FROM (SELECT app_version FROM {STORED}\n"
            f"  ORDER BY source_timestamp DESC LIMIT {MOST}) AS newest\n"
            "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10",
            {"name": Column.TEXT, "value": Column.NUMBER},
        ),
    ),
    Unit.WHOLE,
)
RULES = Panel(
    Words(
        "Broken rules",
        "The rules that were broken most in the range, whatever the code",
        nothing="no rule was broken in this range",
    ),
    Bars(rows=True),
    (
        table(
            "SELECT rule AS name, sum(broken) AS value\n"
            f"FROM {Source('quality.rules', ('rule', 'broken')).rows()}\n"
            "GROUP BY 1 HAVING sum(broken) > 0 ORDER BY 2 DESC, 1 LIMIT 10",
            {"name": Column.TEXT, "value": Column.NUMBER},
        ),
    ),
    Unit.WHOLE,
)
NEWEST = Panel(
    Words(
        "Newest dead letters",
        "The newest hundred of the range with the first rule that each broke and the value that"
        " broke it; the payload is shown with a dot for each byte that is no letter",
        "an empty table",
        NOTHING,
    ),
    Grid(10),
    (
        table(
            "SELECT source_timestamp AS received, code, flow AS stage,"
            " coalesce(app_version, '(none)') AS version,\n"
            "  violations -> 0 ->> 'rule' AS rule, violations -> 0 ->> 'field' AS field,\n"
            "  left(violations -> 0 ->> 'value', 80) AS value,"
            " jsonb_array_length(violations) AS rules,\n"
            "  source_topic || '/' || source_partition || '/' || source_offset AS place,"
            " schema_fingerprint AS schema,\n"
            "  octet_length(payload) AS bytes,\n"
            "  regexp_replace(encode(substring(payload FROM 1 FOR 96), 'escape'),"
            " '\\\\\\\\|\\\\[0-7]{3}|[^ -~]', '·', 'g') AS payload\n"
            f"FROM {STORED}\n"
            "ORDER BY source_timestamp DESC, source_offset DESC LIMIT 100",
            {
                "received": Column.TIME,
                "code": Column.TEXT,
                "stage": Column.TEXT,
                "version": Column.TEXT,
                "rule": Column.TEXT,
                "field": Column.TEXT,
                "value": Column.TEXT,
                "rules": Column.NUMBER,
                "place": Column.TEXT,
                "schema": Column.TEXT,
                "bytes": Column.NUMBER,
                "payload": Column.TEXT,
            },
        ),
    ),
    Unit.WHOLE,
    styles=(
        Style("received", title="Received", unit=Unit.TIME, width=150),
        Style("code", title="Code", width=115),
        Style("stage", title="Stage", width=80),
        Style("version", title="Version", width=70),
        Style("rule", title="First rule", width=180),
        Style("field", title="Field", width=155),
        Style("value", title="Value", width=90),
        Style("rules", title="Rules", width=55),
        Style("place", title="Place", width=145),
        Style("schema", title="Schema", width=130),
        Style("bytes", title="Bytes", unit=Unit.WHOLE, width=60),
        Style("payload", title="Payload"),
    ),
)
HELP = Panel(
    Words(
        "What to do",
        "The way from a dead letter back to the numbers",
    ),
    Prose(
        "1. **Why?** The table names the first broken rule, its field and value.\n"
        "2. **Whose?** *By producer version* says which release sends it.\n"
        f"3. **Fixed?** [Replay]({uids.RUNBOOK}#replay) them: section *replay* of"
        f" `{uids.RUNBOOK}`."
    ),
)

DEAD_LETTERS = Board(
    uids.DEAD_LETTERS,
    "Dead letters",
    "What was refused, why, since when and by whose hand, down to the record.",
    (
        (5, ((4, TOTAL), (4, SHARE), (4, OLDEST), (4, NEW_CODES), (8, HELP))),
        (10, ((8, SEEN), (10, BY_CODE), (6, CODES))),
        (8, ((8, PURCHASES), (8, VERSIONS), (8, RULES))),
        (14, ((24, NEWEST),)),
    ),
    (CODE,),
    since="now-24h",
)
