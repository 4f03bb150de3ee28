"""What the README says of other engines is what was measured."""

from __future__ import annotations

import json

import pytest

from bench.peers.__main__ import RESULTS
from flows.runtime.paths import ROOT

ROWS = {"event": "an event per record of clean.web", "batch": "a batch per record"}


@pytest.mark.parametrize("form", ROWS)
def test_the_ratios_of_the_readme_are_those_of_the_results(form: str) -> None:
    ratios = json.loads(RESULTS.read_text())[form]["medians"]["ratios"]
    shown = (f"{ratios[name]:.2f} x" for name in ("eps", "cpu_s_per_million", "rss_mib"))
    assert f"| {ROWS[form]} | {' | '.join(shown)} |" in (ROOT / "README.md").read_text()
