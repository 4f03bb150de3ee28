"""What the dashboards' time axis is marked with: who writes it, and that it waits for a database
that is away."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from database.annotations import Annotation, Kind
from database.migrate import migrate
from flows.runtime.paths import ROOT
from shopstream.supervise.annotator import Annotator
from shopstream.supervise.child import ROLLUP, Child, Job
from shopstream.supervise.supervisor import Supervisor
from tests.support.databases import Database
from tests.support.stack import wait_until


def written(database: Database, kind: Kind) -> list[tuple[Any, ...]]:
    return database.query(
        "SELECT title, text, tags FROM ops.annotations WHERE kind = %s ORDER BY time", str(kind)
    )


def test_a_migration_tells_what_it_changed_and_nothing_else(database: Database) -> None:
    assert [title for title, _, _ in written(database, Kind.SCHEMA)] == ["schema made"]
    migrate(database.url)
    assert len(written(database, Kind.SCHEMA)) == 1
    database.execute("ALTER TABLE gold.searches_1m_by_partition DROP COLUMN zero_results CASCADE")
    migrate(database.url)
    _, (title, text, _) = written(database, Kind.SCHEMA)
    assert title == "schema changed"
    assert text.startswith("new: gold.searches_1m.")
    assert "gold.searches_1m_by_partition.zero_results" in text


def annotate(database: Database, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shopstream", "annotate", *words],
        cwd=ROOT,
        env={"DATABASE_URL": database.url},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_deployment_is_annotated_by_a_command(database: Database) -> None:
    result = annotate(
        database,
        "deployment",
        "web 4.2",
        "--tag",
        "web",
        "--at",
        "2026-03-01T12:00",
        "--until",
        "2026-03-01T13:00+01:00",
    )
    assert result.returncode == 0, result.stderr
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    annotations = database.query(
        "SELECT time, time_end, kind, title, tags FROM ops.annotations WHERE kind <> 'schema'"
    )
    assert annotations == [(noon, noon, "deployment", "web 4.2", ["web"])]


@pytest.mark.parametrize(
    "words", [("party", "x"), ("deployment", "x", "--at", "2026-03-02", "--until", "2026-03-01")]
)
def test_a_wrong_annotation_is_refused(database: Database, words: tuple[str, ...]) -> None:
    assert annotate(database, *words).returncode == 2
    assert database.query("SELECT count(*) FROM ops.annotations WHERE kind <> 'schema'") == [(0,)]


def supervised(job: Job, folder: Path, annotator: Annotator, **variables: str) -> Supervisor:
    """A supervisor of this job alone."""
    supervisor = Supervisor(variables, folder, jobs=(job,), on_restart=annotator.put)
    supervisor.children = [child for child in supervisor.children if child.job is job]
    return supervisor


def tended(supervisor: Supervisor) -> Child:
    supervisor.tend()
    return supervisor.children[0]


def test_a_restart_is_annotated_with_the_last_words(database: Database, tmp_path: Path) -> None:
    unlucky = Job("unlucky", ("-c", "raise SystemExit(print('no luck today') or 4)"), "never")
    with (
        Annotator(database.url) as annotator,
        supervised(unlucky, tmp_path, annotator) as supervisor,
    ):
        wait_until("a restart", lambda: tended(supervisor).restarts > 0)
        wait_until("its annotation", lambda: bool(written(database, Kind.RESTART)))
    assert written(database, Kind.RESTART)[0] == (
        "unlucky restarted",
        "no luck today",
        ["unlucky", "exit 4"],
    )


def test_an_annotation_waits_for_its_database(database: Database) -> None:
    database.execute("ALTER TABLE ops.annotations RENAME TO away")
    with Annotator(database.url) as annotator:
        for title in ("first", "second"):
            annotator.put(Annotation(Kind.RESTART, title))
        wait_until("the first to be tried", lambda: annotator.failures > 0)
        database.execute("ALTER TABLE ops.away RENAME TO annotations")
    assert [title for title, _, _ in written(database, Kind.RESTART)] == ["first", "second"]


def test_the_rollup_job_is_supervised_and_stops_when_asked(
    database: Database, tmp_path: Path
) -> None:
    with (
        Annotator(database.url) as annotator,
        supervised(ROLLUP, tmp_path, annotator, DATABASE_URL=database.url) as supervisor,
    ):
        supervisor.wait_until_reading(30)
        assert supervisor.children[0].reading
        wait_until(
            "its first run",
            lambda: bool(database.query("SELECT FROM ops.jobs WHERE job = 'rollup'")),
        )
    assert supervisor.children[0].exit_code == 0
    assert written(database, Kind.RESTART) == []
