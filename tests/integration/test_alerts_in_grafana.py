"""With a Grafana at GRAFANA_URL (user and password in it): it has loaded the alerting files, and
every rule is healthy."""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from grafana import uids
from grafana.alerts import render
from grafana.alerts.files import ALERTING

EXPECTED = {
    rule["uid"]
    for path, text in render().items()
    if path.parent == ALERTING
    for group in yaml.safe_load(text).get("groups", ())
    for rule in group["rules"]
}


def call(method: str, path: str) -> Any:
    """Errors: AssertionError with Grafana's own words."""
    url = urlsplit(os.environ["GRAFANA_URL"])
    request = urllib.request.Request(
        f"{url.scheme}://{url.hostname}:{url.port or 80}{path}", method=method
    )
    if url.username:
        login = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def health_of(rules: Any) -> dict[str, str]:
    """Uid -> health of each rule in our folder, from Grafana's list of what it evaluates."""
    groups = [g for g in rules["data"]["groups"] if g["file"] == uids.ALERT_FOLDER]
    return {rule["uid"]: rule["health"] for group in groups for rule in group["rules"]}


def test_health_is_read_from_what_grafana_answers() -> None:
    group = {
        "file": uids.ALERT_FOLDER,
        "rules": [{"uid": "a", "health": "ok"}, {"uid": "b", "health": "error"}],
    }
    other = {"file": "other", "rules": [{"uid": "c", "health": "error"}]}
    assert health_of({"data": {"groups": [group, other]}}) == {"a": "ok", "b": "error"}


@pytest.mark.skipif(
    "GRAFANA_URL" not in os.environ,
    reason="no Grafana: set GRAFANA_URL, with user and password in it",
)
def test_grafana_loads_the_files_and_every_rule_is_healthy() -> None:
    call("POST", "/api/admin/provisioning/alerting/reload")
    until = time.monotonic() + 180  # each rule is evaluated once a minute
    while True:
        health = health_of(call("GET", "/api/prometheus/grafana/api/v1/rules"))
        if set(health) >= EXPECTED and all(health[uid] in ("ok", "nodata") for uid in EXPECTED):
            return
        assert time.monotonic() < until, {
            uid: health.get(uid, "not there") for uid in sorted(EXPECTED)
        }
        time.sleep(2)
