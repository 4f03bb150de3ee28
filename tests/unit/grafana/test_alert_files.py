"""The files of alerting: as rendered, loadable by Grafana, and with references that resolve."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import runtime
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import alerting, expr, prometheus

from database.thresholds import LIMITS
from grafana import uids
from grafana.alerts import GROUPS, notifying, render
from grafana.alerts.files import ALERTING
from grafana.alerts.rendering import group_file
from grafana.alerts.rule import PanelReference
from grafana.alerts.text import worded
from grafana.boards import BY_UID
from grafana.boards.runbook import RUNBOOK
from grafana.panels import Prose
from grafana.queries import Sql

FILES = {
    path.name: yaml.safe_load(text) for path, text in render().items() if path.parent == ALERTING
}
RULES = [r for file in FILES.values() for g in file.get("groups", ()) for r in g["rules"]]
SPECS = {r.uid: r for g in GROUPS for r in g.rules}
KEYS = {
    "uid",
    "title",
    "condition",
    "data",
    "dashboardUid",
    "panelId",
    "noDataState",
    "execErrState",
    "for",
    "keepFiringFor",
    "annotations",
    "labels",
    "isPaused",
}
NOTICES = ("contact-points.yaml", "mute-timings.yaml", "policies.yaml", "templates.yaml")


def by_uid(rule: dict[str, Any]) -> str:
    return str(rule["uid"])


def texts(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            yield from texts(item)
    elif isinstance(content, str):
        yield content


def slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def rendered_panel(reference: PanelReference) -> dict[str, Any]:
    path = uids.PROVISIONING / "dashboards" / f"{reference.board}.json"
    panels = json.loads(path.read_text())["panels"]
    (panel,) = (p for p in panels if p["title"] == reference.title)
    assert isinstance(panel, dict)
    return panel


def plain(model: Any) -> Any:
    return yaml.safe_load(JSONEncoder(sort_keys=True).encode(model))


def test_what_is_checked_in_is_what_the_code_makes() -> None:
    for path, text in render().items():
        assert path.read_text() == text, f"{path.name}: run `python -m grafana render`"
    assert {p.name for p in ALERTING.iterdir()} == set(FILES), (
        "a stray file here keeps Grafana from starting"
    )


def test_all_that_was_asked_for_is_watched() -> None:
    assert [g.name for g in GROUPS] == ["business", "quality", "pipeline"]
    assert {r.slug for g in GROUPS for r in g.rules} >= {
        "revenue-drop",
        "purchases-per-view",
        "refund-spike",
        "zero-result-searches",
        "dead-letter-share",
        "new-reject-code",
        "quality-score",
        "residue",
        "late-share",
        "reject-budget",
        "freshness",
        "lag-growing",
        "unread-partitions",
        "latency-burn-fast",
        "latency-burn-steady",
        "latency-burn-day",
        "latency-burn-slow",
        "flow-down",
        "flow-stuck",
        "near-loss",
        "rollup-stale",
        "shop-silent",
        "dead-letter-flood",
        "retries",
    }


def test_half_of_the_rules_at_most_wake_someone() -> None:
    critical = [r["uid"] for r in RULES if r["labels"]["severity"] == "critical"]
    assert 2 * len(critical) <= len(RULES), critical


@pytest.mark.parametrize("rule", RULES, ids=by_uid)
def test_a_rule_has_the_fields_that_grafana_knows_and_no_others(rule: dict[str, Any]) -> None:
    """Grafana passes over a misspelt key without a word, and takes defaults of its own for what is
    missing."""
    assert set(rule) == KEYS
    assert re.fullmatch("[a-z0-9-]{1,40}", rule["uid"])
    assert rule["noDataState"] in ("Alerting", "OK", "NoData", "KeepLast")
    assert rule["execErrState"] in ("Error", "KeepLast", "Alerting", "OK")
    assert set(rule["labels"]) == {"severity", "team", "area"}
    assert {"summary", "description", "runbook_url"} <= set(rule["annotations"])


def test_uids_and_titles_are_each_one_of_a_kind() -> None:
    assert len({r["uid"] for r in RULES}) == len({r["title"] for r in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=by_uid)
def test_a_rule_waits_for_two_evaluations_at_least(rule: dict[str, Any]) -> None:
    (interval,) = {
        g["interval"] for f in FILES.values() for g in f.get("groups", ()) if rule in g["rules"]
    }
    assert int(rule["for"].rstrip("s")) >= 2 * int(interval.rstrip("s"))


@pytest.mark.parametrize("rule", RULES, ids=by_uid)
def test_a_rule_asks_reduces_and_compares(rule: dict[str, Any]) -> None:
    nodes = {node["refId"]: node for node in rule["data"]}
    spec = SPECS[rule["uid"]]
    limited = {"D": "A", "E": "D"} if spec.movable else {}
    assert set(nodes) == {"A", "B", "C", *limited}
    assert rule["condition"] == "C"
    assert nodes["B"]["model"]["expression"] == "A"
    assert [nodes[n]["datasourceUid"] for n in ("B", "C")] == ["__expr__"] * 2
    for ref in {"A", "D"} & nodes.keys():
        query = nodes[ref]
        assert query["datasourceUid"] == query["model"]["datasource"]["uid"]
        assert query["datasourceUid"] in (uids.TIMESCALE, uids.PROMETHEUS)
        span = query["relativeTimeRange"]
        assert span["from"] > span["to"] == 0
    assert all(n["model"]["refId"] == ref for ref, n in nodes.items())
    compared = nodes["C"]["model"]
    if spec.movable:
        assert nodes["E"]["model"]["expression"] == "D"
        assert compared["type"] == "math"
        assert re.fullmatch(r"\$B [<>] \$E", compared["expression"])
        return
    assert compared["expression"] == "B"
    (condition,) = compared["conditions"]
    assert condition["evaluator"]["params"] == [spec.limit]
    assert condition["evaluator"]["type"] in ("gt", "lt"), (
        "Grafana 11.6 knows no others that compare with one number"
    )


def test_every_limit_that_can_be_moved_belongs_to_an_alert() -> None:
    assert {s.slug for s in SPECS.values() if s.movable} == set(LIMITS)
    for spec in SPECS.values():
        if spec.movable:
            assert spec.threshold.act == spec.movable.act
            assert isinstance(spec.query, Sql)
            assert bool(spec.movable.of_shops) == ("shop" in spec.query.columns)


def test_a_retired_rule_is_deleted_and_no_rule_of_today_is() -> None:
    gone = {d["uid"] for file in FILES.values() for d in file.get("deleteRules", ())}
    assert gone
    assert not gone & set(SPECS)


@pytest.mark.parametrize(
    "rule", [r for r in RULES if isinstance(SPECS[r["uid"]].query, Sql)], ids=by_uid
)
def test_sql_of_a_rule_is_for_alerts(rule: dict[str, Any]) -> None:
    model = rule["data"][0]["model"]
    assert (model["format"], model["rawQuery"]) == ("time_series", True)
    sql = model["rawSql"]
    macros = re.findall(r"\$\w+\([^)]*\)", sql)
    assert len(macros) == sql.count("$"), "no dashboard variables, no fill"
    assert set(macros) <= {"$__timeTo()", "$__timeFrom()"}, "nothing in brackets, so nothing nested"
    assert re.search(r"ORDER BY 1(, 2)?$", sql)
    of_real_rows = ("partition >= 0", "partition = 0", "residue_1m_by_partition", "ops.jobs")
    assert any(condition in sql for condition in of_real_rows), (
        "made-up history is no reason to wake anyone"
    )


def test_a_dollar_in_a_label_is_written_twice() -> None:
    """Grafana expands variables in labels; a template with a single dollar is silently empty."""
    for rule in RULES:
        for text in (rule["uid"], rule["title"], *rule["labels"].values()):
            assert "$" not in text.replace("$$", "")
        for text in rule["annotations"].values():
            assert "${" not in text


@pytest.mark.parametrize("rule", RULES, ids=by_uid)
def test_a_rule_leads_to_its_panel_and_to_its_section(rule: dict[str, Any]) -> None:
    spec = SPECS[rule["uid"]]
    page, _, number = rule["annotations"]["runbook_url"].partition("?viewPanel=")
    assert page == f"/d/{RUNBOOK.uid}"
    section = RUNBOOK.panels[int(number) - 1]
    assert slug(section.title) == spec.slug
    assert isinstance(section.look, Prose)
    assert "**What to do.**" in section.look.markdown
    panel = rendered_panel(spec.panel)
    assert (rule["dashboardUid"], rule["panelId"]) == (spec.panel.board, panel["id"])
    linked = {k: v for k, v in rule["annotations"].items() if k.startswith("__")}
    assert linked == {"__dashboardUid__": spec.panel.board, "__panelId__": str(panel["id"])}


# the panel shows how many flows run, or how long events take; the rule compares something that
# follows from it
OTHER_NUMBER = {
    "revenue-drop",
    "purchases-per-view",
    "flow-down",
    "latency-burn-fast",
    "latency-burn-steady",
    "latency-burn-day",
    "latency-burn-slow",
}


@pytest.mark.parametrize(
    "spec", [s for s in SPECS.values() if s.slug not in OTHER_NUMBER], ids=lambda s: s.slug
)
def test_a_panel_turns_red_where_its_alert_fires(spec: Any) -> None:
    config = rendered_panel(spec.panel)["fieldConfig"]
    own = [
        p["value"]
        for o in config.get("overrides", ())
        for p in o["properties"]
        if p["id"] == "thresholds"
    ]
    steps = [
        step["value"]
        for t in (config["defaults"].get("thresholds"), *own)
        if t
        for step in t["steps"]
    ]
    assert spec.threshold.act in steps


def test_rules_load_into_the_models_of_the_sdk() -> None:
    runtime.register_dataquery_variant(runtime.DataqueryConfig(uids.TIMESCALE_TYPE, raw))
    runtime.register_dataquery_variant(prometheus.variant_config())
    runtime.register_dataquery_variant(expr.variant_config())
    for rule in RULES:
        loaded = alerting.Rule.from_json(rule)
        model = plain(loaded)
        for key in (
            "uid",
            "title",
            "condition",
            "annotations",
            "labels",
            "noDataState",
            "execErrState",
            "for",
            "isPaused",
        ):
            assert model[key] == rule[key], key
        assert [q["refId"] for q in model["data"]] == [q["refId"] for q in rule["data"]]
        assert [q["relativeTimeRange"] for q in model["data"]] == [
            q["relativeTimeRange"] for q in rule["data"]
        ]
        assert loaded.data is not None
        kinds = {q.ref_id: type(q.model).__name__ for q in loaded.data}
        assert kinds["B"] == kinds.get("E", "TypeReduce") == "TypeReduce"
        assert kinds["C"] == ("TypeMath" if "E" in kinds else "TypeThreshold")
        assert {kinds[ref] for ref in {"A", "D"} & kinds.keys()} <= {"dict", "Dataquery"}


def raw(data: dict[str, Any]) -> Any:
    """The SDK has no model of the PostgreSQL datasource's queries."""
    return data


def test_notices_load_into_the_models_of_the_sdk() -> None:
    for point in FILES["contact-points.yaml"]["contactPoints"]:
        for receiver in point["receivers"]:
            assert plain(alerting.ContactPoint.from_json(receiver)) == receiver
    (policy,) = FILES["policies.yaml"]["policies"]
    wanted = {k: v for k, v in policy.items() if k != "orgId"}
    assert plain(alerting.NotificationPolicy.from_json(policy)) == wanted
    for template in FILES["templates.yaml"]["templates"]:
        loaded = plain(alerting.NotificationTemplate.from_json(template))
        assert (loaded["name"], loaded["template"]) == (template["name"], template["template"])
    for timing in FILES["mute-timings.yaml"]["muteTimes"]:
        assert alerting.MuteTiming.from_json(timing).name == timing["name"]
        for interval in timing["time_intervals"]:
            assert set(interval) == {"times", "location"}
            for span in interval["times"]:
                # the SDK calls these from and to; Grafana's file does not
                assert set(span) == {"start_time", "end_time"}
                assert re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", span["start_time"])
                assert re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d|24:00", span["end_time"])
                assert span["start_time"] < span["end_time"]


def routes(policy: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for child in policy.get("routes", ()):
        yield child
        yield from routes(child)


def test_policies_name_receivers_and_timings_that_are_there() -> None:
    (root,) = FILES["policies.yaml"]["policies"]
    receivers = {p["name"] for p in FILES["contact-points.yaml"]["contactPoints"]}
    timings = {t["name"] for t in FILES["mute-timings.yaml"]["muteTimes"]}
    assert {r["receiver"] for r in (root, *routes(root))} <= receivers
    assert {t for r in routes(root) for t in r.get("mute_time_intervals", ())} == timings
    assert "mute_time_intervals" not in root, "Grafana refuses them there"
    assert root["group_by"] == ["grafana_folder", "area", "severity"]


def test_messages_use_templates_that_are_there() -> None:
    (templates,) = FILES["templates.yaml"]["templates"]
    defined = set(re.findall(r'\{\{-? *define "([^"]+)"', templates["template"]))
    used = {
        u
        for text in texts([FILES[n] for n in NOTICES])
        for u in re.findall(r'\{\{ *template "([^"]+)"', text)
    }
    assert used == defined
    assert used == {f"shopstream.{name}" for name in ("title", "message", "alert", "runbook")}
    opened = re.findall(r"\{\{-? *(?:define|if|range|with)\b", templates["template"])
    closed = re.findall(r"\{\{-? *end *-?\}\}", templates["template"])
    assert len(opened) == len(closed)


def grafanas(text: str, environment: dict[str, str]) -> str:
    """A value of a provisioning file as Grafana expands it: `$$` is a dollar, what is not set is
    empty."""
    parts = [
        re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda m: environment.get(m[1] or m[2], ""), p)
        for p in text.split("$$")
    ]
    return "$".join(parts)


@pytest.mark.parametrize(
    ("environment", "receivers"),
    [
        ({}, {notifying.WEBHOOK}),
        ({"SHOPSTREAM_ALERT_WEBHOOK_URL": "https://hooks.example/x?y=z"}, {notifying.WEBHOOK}),
        ({"SHOPSTREAM_ALERT_EMAIL": "a@example.org"}, {notifying.EMAIL}),
        (
            {"SHOPSTREAM_ALERT_WEBHOOK_URL": "http://h", "SHOPSTREAM_ALERT_EMAIL": "a@b.c;d@e.f"},
            {notifying.WEBHOOK, notifying.EMAIL},
        ),
    ],
)
def test_grafana_starts_and_tells_the_channels_that_are_set(
    environment: dict[str, str], receivers: set[str]
) -> None:
    for point in FILES["contact-points.yaml"]["contactPoints"]:
        (receiver,) = point["receivers"]
        settings = receiver["settings"]
        required = {"webhook": "url", "email": "addresses"}[receiver["type"]]
        assert grafanas(settings[required], environment) != "", (
            "Grafana does not start with an empty one"
        )
    (root,) = FILES["policies.yaml"]["policies"]
    for severity in ("critical", "warning"):
        labels = {
            "severity": severity,
            "area": "pipeline",
            "team": "platform",
            "alertname": "Flow down",
        }
        assert {r["receiver"] for r in taken(root, labels, environment)} == receivers
        muted = [r for r in taken(root, labels, environment) if r.get("mute_time_intervals")]
        assert bool(muted) == (severity == "warning" and environment != {})


def taken(
    route: dict[str, Any], labels: dict[str, str], environment: dict[str, str]
) -> list[dict[str, Any]]:
    """The routes that an alert takes, as the Alertmanager walks the tree.

    A label that is missing is empty.
    """
    routes = []
    for child in route.get("routes", ()):
        compare = {"=": str.__eq__, "!=": str.__ne__}
        if all(
            compare[how](labels.get(n, ""), grafanas(v, environment))
            for n, how, v in child["object_matchers"]
        ):
            routes += taken(child, labels, environment)
            if not child.get("continue", False):
                break
    return routes or [route]


@pytest.mark.parametrize("point", [notifying.WEBHOOK, notifying.EMAIL])
def test_a_message_leads_to_a_runbook_of_ones_own_or_to_the_board(point: str) -> None:
    (receiver,) = next(
        p for p in FILES["contact-points.yaml"]["contactPoints"] if p["name"] == point
    )["receivers"]
    message = receiver["settings"]["message"]
    own = grafanas(message, {"SHOPSTREAM_RUNBOOK_URL": "https://wiki.example/alerts"})
    assert '{{ if "https://wiki.example/alerts" }}https://wiki.example/alerts#{{' in own
    assert '{{ if "" }}#{{ .Annotations.runbook_section }}{{ else }}{{ reReplaceAll' in grafanas(
        message, {}
    )
    assert {r["annotations"]["runbook_section"] for r in RULES} == {s.slug for s in SPECS.values()}


def test_a_webhook_is_called_where_it_was_asked_for() -> None:
    """The end that keeps an unset address from being empty is a fragment, which no client sends."""
    (receiver,) = next(
        p for p in FILES["contact-points.yaml"]["contactPoints"] if p["name"] == notifying.WEBHOOK
    )["receivers"]
    url = grafanas(
        receiver["settings"]["url"], {"SHOPSTREAM_ALERT_WEBHOOK_URL": "https://hooks.example/x?y=z"}
    )
    assert url.partition("#") == ("https://hooks.example/x?y=z", "#", "shopstream")


@pytest.mark.parametrize(
    ("panel", "complaint"),
    [
        (PanelReference(uids.LIVE, "Nett sales"), "shopstream-live has no panel Nett sales"),
        (PanelReference("shopstream-life", "Net sales"), "shopstream-life"),
    ],
)
def test_an_alert_without_its_panel_is_refused(panel: PanelReference, complaint: str) -> None:
    (group, *_) = GROUPS
    rules = (replace(group.rules[0], panel=panel),)
    with pytest.raises(LookupError, match=complaint):
        group_file(replace(group, rules=rules))


def test_a_panel_is_found_by_its_title() -> None:
    board = BY_UID[uids.LIVE]
    assert board.panel_id("Net sales") == 1
    with pytest.raises(LookupError, match="shopstream-live has no panel net-sales"):
        board.panel_id("net-sales")


def test_words_become_templates() -> None:
    assert (
        worded("{percent} in {label.currency}", "v")
        == "{{ humanizePercentage v }} in {{ $labels.currency }}"
    )
    with pytest.raises(KeyError):
        worded("{precent}", "v")


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda s: s.slug)
def test_labels_in_a_summary_are_labels_of_the_query(spec: Any) -> None:
    query = spec.query.text if isinstance(spec.query, Sql) else spec.query.expr
    for label in re.findall(r"\{label\.(\w+)\}", spec.summary):
        assert re.search(rf"\b{label}\b", query)
