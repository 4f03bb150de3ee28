"""What is checked in is what the code renders, and what Grafana and a reader of a board can rely
on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import bargauge, heatmap, piechart, stat, table, text, timeseries
from grafana_foundation_sdk.models.dashboard import Dashboard

from flows.runtime.paths import ROOT
from grafana import colours, files, thresholds, uids
from grafana.boards import ALL, BOARDS, BY_UID
from grafana.boards.runbook import RUNBOOK
from grafana.dashboard import VARIABLES, Board
from grafana.panels import Alarms, Grid, Panel, Prose, Stat, Unit
from grafana.queries import Column
from grafana.thresholds import Threshold, Worse
from grafana.to_grafana import steps

CORE = {"stat", "timeseries", "bargauge", "piechart", "table", "heatmap", "text", "alertlist"}
LOADED = (
    stat,
    timeseries,
    bargauge,
    piechart,
    table,
    heatmap,
    text,
)  # importing a module teaches the SDK to load its panels
SCREEN, SCREENS = 24, 2  # rows of Grafana's grid on a screen of 1,080 points
# of Grafana's grid and of its tables
GRID_POINTS, GAP_POINTS, HEAD_POINTS, ROW_POINTS = 38, 8, 40, 36
MOST_LETTERS = 2_000
DATASOURCES = {
    uids.TIMESCALE: uids.TIMESCALE_TYPE,
    uids.PROMETHEUS: uids.PROMETHEUS_TYPE,
    "-- Grafana --": "grafana",
}
EACH = [(board, panel) for board in BOARDS for panel in board.panels]


def checked_in(board: Board) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(
        (uids.PROVISIONING / "dashboards" / f"{board.uid}.json").read_text()
    )
    return loaded


def named(value: Any) -> str:
    return (
        value.title
        if isinstance(value, Panel)
        else value.uid
        if isinstance(value, Board)
        else str(value)
    )


def test_what_is_checked_in_is_what_is_rendered() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "grafana", "render", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr


def test_a_changed_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from grafana import __main__ as command

    texts = {tmp_path / p.name: t for p, t in files.render().items()}
    monkeypatch.setattr(files, "render", lambda: texts)
    monkeypatch.setattr(files, "orphans", lambda _: [])
    assert command.main(["render"]) == 0
    assert command.main(["render", "--check"]) == 0
    (tmp_path / "shopstream-live.json").write_text("{}")
    assert command.main(["render", "--check"]) == 1


@pytest.mark.parametrize("board", BOARDS, ids=named)
def test_a_board_loads_into_the_models_of_grafana(board: Board) -> None:
    raw = checked_in(board)
    again = json.loads(json.dumps(Dashboard.from_json(raw), cls=JSONEncoder))
    loaded = {m.__name__.rpartition(".")[2] for m in LOADED} | {"alertlist"}
    assert loaded >= {p["type"] for p in raw["panels"]}
    for ours, theirs in zip(raw["panels"], again["panels"], strict=True):
        if ours["type"] == "stat":  # Grafana has it since 10.2, the models have not
            assert ours["fieldConfig"]["defaults"].pop("fieldMinMax") is True
        assert theirs == ours, ours["title"]  # nothing is unknown to the models and lost
    assert again["templating"] == raw.get("templating", again["templating"])
    assert raw["schemaVersion"] >= 39
    assert raw["id"] is None
    assert raw["editable"] is False


def test_uids_titles_and_panel_ids_are_unique() -> None:
    assert len({b.uid for b in BOARDS}) == len({b.title for b in BOARDS}) == len(BOARDS) == 6
    for board in BOARDS:
        raw = checked_in(board)
        assert re.fullmatch(r"[a-z0-9-]{1,40}", raw["uid"])
        assert max(Counter(p["id"] for p in raw["panels"]).values()) == 1
        assert max(Counter(p["title"] for p in raw["panels"]).values()) == 1
        assert uids.TAG in raw["tags"]
        assert [board.panel_id(p["title"]) for p in raw["panels"]] == [
            p["id"] for p in raw["panels"]
        ]


def references(value: Any) -> Iterator[dict[str, str]]:
    if isinstance(value, dict):
        if isinstance(value.get("datasource"), dict):
            yield value["datasource"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@pytest.mark.parametrize("board", BOARDS, ids=named)
def test_every_reference_resolves(board: Board) -> None:
    raw = checked_in(board)
    for reference in references(raw):
        assert DATASOURCES[reference["uid"]] == reference["type"]
    for uid in re.findall(r"/d/([a-z0-9-]+)", json.dumps(raw)):
        assert uid in BY_UID
    offered = {v["name"] for v in raw.get("templating", {}).get("list", [])}
    own = {
        "__all",
        "__data",
        "__from",
        "__to",
        "__interval",
        "__rate_interval",
        "__url_time_range",
        "__timeFilter",
        "__timeFrom",
        "__timeTo",
        "__unixEpochFrom",
        "__unixEpochTo",
        "__value",
    }
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(raw)))
    assert used - own <= offered
    assert not re.search(r"\$\{DS_|__inputs", json.dumps(raw))
    assert not re.search(r"https?://", json.dumps(raw))  # no internet


@pytest.mark.parametrize("board", BOARDS, ids=named)
def test_a_board_fits_two_screens_without_holes(board: Board) -> None:
    panels = checked_in(board)["panels"]
    cells = Counter(
        (x, y)
        for p in panels
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    )
    assert set(cells.values()) == {1}
    height = max(y for _, y in cells) + 1
    assert {x for x, _ in cells} == set(range(24))
    assert len(cells) == 24 * height
    assert height <= SCREEN * SCREENS
    first = [p for p in panels if p["gridPos"]["y"] == 0]
    assert {p["type"] for p in first} <= {"stat", "text"}  # "are we fine?" comes first
    assert len([p for p in panels if " vs " not in p["title"]]) <= 24  # thin tiles beside


@pytest.mark.parametrize("board", BOARDS, ids=named)
def test_a_table_has_room_for_the_rows_that_it_promises(board: Board) -> None:
    for _, panel, at in board.placed():
        if isinstance(panel.look, Grid):
            points = at.h * GRID_POINTS - GAP_POINTS - HEAD_POINTS
            assert (panel.look.shown + 1) * ROW_POINTS <= points, panel.title


def test_a_stat_has_one_value() -> None:
    for _, panel in EACH:
        if isinstance(panel.look, Stat):
            assert len(panel.queries) == 1, panel.title
            values = [k for q in panel.sql for k in q.columns.values() if k is Column.NUMBER]
            assert len(values) == (1 if panel.sql else 0), panel.title


@pytest.mark.parametrize("board", BOARDS, ids=named)
def test_a_query_can_be_read_in_grafanas_inspector(board: Board) -> None:
    for panel in board.panels:
        for query in panel.sql:
            assert query.text.count("\n") < 40, panel.title
            assert len(query.text) < MOST_LETTERS, (panel.title, len(query.text))


@pytest.mark.parametrize(("board", "panel"), EACH, ids=named)
def test_a_panel_says_what_it_shows(board: Board, panel: Panel) -> None:
    raw = next(p for p in checked_in(board)["panels"] if p["title"] == panel.title)
    assert raw["type"] in CORE
    sentences = re.findall(r"[.](?= [A-Z]|$)", raw["description"])
    assert 1 <= len(sentences) <= 2, raw["description"]
    assert ("Healthy is " in raw["description"]) is bool(panel.words.healthy)
    assert ".." not in raw["description"]
    assert raw["title"][0].isupper()
    assert len(raw["title"]) <= 40
    if isinstance(panel.look, Prose | Alarms):
        return
    defaults = raw["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert defaults["decimals"] >= 0
    assert len(defaults["noValue"]) > 5
    assert defaults["thresholds"]["steps"][0]["value"] is None
    assert raw["targets"]
    assert all(t.get("rawSql") or t.get("expr") for t in raw["targets"])
    assert len({t["refId"] for t in raw["targets"]}) == len(raw["targets"])


def test_amounts_follow_the_currency_and_its_exponent() -> None:
    for board, panel in EACH:
        text = " ".join(q.text for q in panel.sql)
        minor = set(re.findall(r"(?:sum|max)\((\w+_minor)", text))
        shares = re.search(r"_minor\)::double precision / nullif\(sum\(gross_minor\)", text)
        if panel.amounts or (minor and not shares and panel.unit is not Unit.RATIO):
            assert "gold.in_major(" in text, panel.title
            if "in_major(sum(amount_minor), amount_currency)" in text:
                continue  # a row for each currency, with its name beside
            assert "currency = '$currency'" in text, panel.title
            raw = next(p for p in checked_in(board)["panels"] if p["title"] == panel.title)
            assert any(t["id"] == "configFromData" for t in raw["transformations"])
        if "gold.orders" in text or "gold.sales" in text:
            assert "currency = '$currency'" in text, f"{panel.title} adds currencies"
    currency = VARIABLES["currency"]
    assert not currency.many
    for board in BOARDS:
        for variable in checked_in(board).get("templating", {}).get("list", []):
            many = variable["name"] != "currency"
            assert (variable["multi"], variable["includeAll"]) == (many, many)
            assert variable.get("allValue") == (
                {v.name: v.column for b in BOARDS for v in b.variables}[variable["name"]]
                if many
                else None
            )


def test_different_visitors_are_never_summed_over_time() -> None:
    for _, panel in EACH:
        for query in panel.sql:
            if "visitors" in query.text:
                assert not re.search(r"traffic_1[hd]", query.text)
                assert re.search(r"sum\(visitors\).*GROUP BY 1", query.text, re.DOTALL)
                assert isinstance(panel.look, Stat)
                assert panel.look.calc == "lastNotNull"


def test_the_same_thing_has_the_same_colour_everywhere() -> None:
    seen: dict[str, str] = {}
    for _, panel in EACH:
        for style in panel.styles:
            if style.colour and style.name in colours.KNOWN and not style.neutral:
                assert (
                    seen.setdefault(style.name, style.colour)
                    == style.colour
                    == colours.KNOWN[style.name]
                ), panel.title


def test_thresholds_are_those_that_alerts_share() -> None:
    shared = {id(t) for t in vars(thresholds).values() if isinstance(t, Threshold)}
    for _, panel in EACH:
        used = [panel.threshold, *(s.threshold for s in panel.styles)]
        assert all(id(t) in shared for t in used if t is not None), panel.title


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (Threshold(10, 5), [(None, colours.GREEN), (5, colours.AMBER), (10, colours.RED)]),
        (Threshold(1), [(None, colours.GREEN), (1, colours.RED)]),
        (
            Threshold(0.9, 0.95, Worse.BELOW),
            [(None, colours.RED), (0.9, colours.AMBER), (0.95, colours.GREEN)],
        ),
        (Threshold(4, None, Worse.BELOW), [(None, colours.RED), (4, colours.GREEN)]),
        (None, [(None, colours.GREEN)]),
    ],
)
def test_a_threshold_is_drawn_in_grafanas_order(
    threshold: Threshold | None, expected: list[tuple[float | None, str]]
) -> None:
    assert [(s.value, s.color) for s in steps(threshold).build().steps] == expected


def test_boards_link_to_each_other_with_range_and_variables() -> None:
    for board in BOARDS:
        links = {link["url"]: link for link in checked_in(board)["links"]}
        assert links.keys() == {f"/d/{other.uid}" for other in ALL if other is not board}
        assert all(link["keepTime"] and link["includeVars"] for link in links.values())


def test_datasources_and_provider_are_what_grafana_takes() -> None:
    loaded = yaml.safe_load((uids.PROVISIONING / "datasources" / "shopstream.yaml").read_text())
    by_uid = {d["uid"]: d for d in loaded["datasources"]}
    timescale = by_uid[uids.TIMESCALE]
    assert {uid: d["type"] for uid, d in by_uid.items()} == {
        uids.TIMESCALE: uids.TIMESCALE_TYPE,
        uids.PROMETHEUS: uids.PROMETHEUS_TYPE,
    }
    assert "database" not in timescale
    assert timescale["jsonData"]["database"]
    assert timescale["jsonData"]["timescaledb"] is True
    assert set(timescale["secureJsonData"]) == {"password"}
    assert timescale["secureJsonData"]["password"].startswith("$__file{")
    assert "deleteDatasources" not in loaded
    assert all(d["editable"] is False for d in loaded["datasources"])
    (provider,) = yaml.safe_load(
        (uids.PROVISIONING / "dashboards" / "shopstream.yaml").read_text()
    )["providers"]
    assert provider["allowUiUpdates"] is False
    assert provider["folderUid"] == uids.FOLDER_UID
    assert provider["options"]["path"] == f"{uids.PROVISIONING_IN_GRAFANA}/dashboards"


def test_units_of_the_catalogue_have_a_unit_on_panels() -> None:
    from flows.domain.families import CATALOGUE
    from grafana.catalogue import UNITS, over_time

    for metric in CATALOGUE:
        for measure in metric.measures:
            if measure.distinct is not None:
                with pytest.raises(ValueError, match="do not add up"):
                    over_time(f"{metric.name}.{measure.name}")
                continue
            panel = over_time(
                f"{metric.name}.{measure.name}"
            )  # a new metric is placed in this one line
            assert panel.title == measure.title
            assert measure.help.rstrip(".") in panel.words.description
            assert panel.unit is UNITS[measure.unit]
            assert bool(panel.amounts) is (panel.unit is Unit.CURRENCY)


def test_the_runbook_is_a_board_with_every_section_of_the_page() -> None:
    text = (ROOT / uids.RUNBOOK).read_text()
    panels = checked_in(RUNBOOK)["panels"]
    assert [p["title"] for p in panels[1:]] == re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert all(p["type"] == "text" and p["gridPos"]["w"] == 24 for p in panels)
    code = "\n".join(p["options"]["content"] for p in panels)
    assert re.findall(r"```sql\n(.*?)```", code, re.DOTALL) == re.findall(
        r"```sql\n(.*?)```", text, re.DOTALL
    )
    for number in re.findall(rf"/d/{RUNBOOK.uid}\?viewPanel=(\d+)", code):
        assert 1 <= int(number) <= len(panels)
