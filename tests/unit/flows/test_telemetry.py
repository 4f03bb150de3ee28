"""The numbers and lines of a flow: what the list says, what a batch adds, what it costs."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import time
import urllib.request
from collections.abc import Iterator
from urllib.error import HTTPError

import numpy as np
import pyarrow as pa
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from flows.connectors.observers import UpsertCounts
from flows.domain.batch import Batch
from flows.domain.checkpoint import Checkpoint
from flows.domain.cleaning import Cleaned
from flows.domain.codes import VERDICT_INDEX, VERDICTS, Code
from flows.domain.counting import Counted
from flows.domain.errors import TransientError
from flows.runtime.paths import ROOT
from flows.runtime.settings import Settings
from flows.runtime.telemetry import http, logs, names
from flows.runtime.telemetry.health import Verdict
from flows.runtime.telemetry.instruments import Instruments
from flows.runtime.telemetry.names import FLOWS, Kind, MetricFamily
from flows.runtime.telemetry.telemetry import Telemetry

ENDS = (0.005, 0.25, 1.0, 60.0)
SPREAD = MetricFamily("shopstream_age_seconds", Kind.HISTOGRAM, "For this test.", buckets=ENDS)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def samples_of(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """(name, label value, ...) -> value; labels in the order of their names."""
    from prometheus_client import generate_latest

    return {
        (s.name, *(v for _, v in sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for s in family.samples
    }


def batch_of(count: int, partitions: int = 4) -> Batch:
    each = count // partitions
    now = time.time_ns() // 1_000_000
    return Batch(
        np.repeat(np.arange(partitions, dtype=np.int32), each),
        np.tile(np.arange(each), partitions),
        np.tile(np.linspace(now - 500, now, each).astype(np.int64), partitions),
        pa.nulls(count, pa.binary()),
        pa.nulls(count, pa.binary()),
        True,
    )


def telemetry_of(flow: str) -> Telemetry:
    telemetry = Telemetry(flow, Settings())
    telemetry.source.reading(
        "raw.web", {p: Checkpoint(0, 0) for p in range(4)}, dict.fromkeys(range(4), 0), 4
    )
    return telemetry


# the list


def test_every_name_says_its_unit_and_what_it_is() -> None:
    assert len({n.name for n in names.METRIC_FAMILIES}) == len(names.METRIC_FAMILIES)
    for number in names.METRIC_FAMILIES:
        assert re.fullmatch(r"shopstream_[a-z_]+", number.name)
        assert number.name.endswith("_total") == (number.kind is Kind.COUNTER)
        assert bool(number.buckets) == (number.kind is Kind.HISTOGRAM)
        assert number.buckets == tuple(sorted(number.buckets))
        assert set(number.flows) <= set(FLOWS)
        assert number.help.endswith(".")


def test_every_number_that_is_written_down_is_in_the_list() -> None:
    written = [n for n, value in vars(names).items() if isinstance(value, MetricFamily)]
    assert [getattr(names, n) for n in written] == list(names.METRIC_FAMILIES)


def test_the_slo_is_an_end_of_a_bucket() -> None:
    assert names.LATENCY_SLO_SECONDS in names.LATENCY.buckets


def test_only_telemetry_knows_prometheus_and_only_events_write_lines() -> None:
    for path in (ROOT / "flows").rglob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        imported |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        if path.parent.name != "telemetry":
            assert not {
                m for m in imported if m.split(".")[0] in ("prometheus_client", "structlog")
            }, path
            # a library's own lines are handed on; none is written here
            assert not re.search(
                r"\blog(ger)?\.(debug|info|warning|error|exception|critical)\(", path.read_text()
            ), path


# histograms of whole batches


@given(st.lists(st.lists(st.integers(-100, 70_000), max_size=50), max_size=4))
def test_a_batch_of_ages_adds_what_each_of_them_would(batches: list[list[int]]) -> None:
    numbers, now = Instruments("clean"), 1_772_366_400_000
    spread = numbers.batch_histogram(SPREAD)
    for ages in batches:
        spread.add_ages(now, now - np.array(ages, np.int64))
    samples = samples_of(numbers.registry)
    every = [max(age, 0) / 1000 for ages in batches for age in ages]
    for end in ENDS:
        assert samples["shopstream_age_seconds_bucket", "clean", str(end)] == sum(
            age <= end for age in every
        )
    assert samples["shopstream_age_seconds_bucket", "clean", "+Inf"] == len(every)
    assert samples["shopstream_age_seconds_count", "clean"] == len(every)
    assert samples["shopstream_age_seconds_sum", "clean"] == pytest.approx(sum(every))


# what a batch adds


def cleaned_of(batch: Batch, counts: dict[str, int]) -> Cleaned:
    numbers = np.zeros(len(VERDICTS), np.int64)
    for (outcome, code), i in VERDICT_INDEX.items():
        numbers[i] = counts.get(code or outcome, 0)
    return Cleaned(None, None, np.ones(len(batch), bool), numbers, numbers)  # type: ignore[arg-type]  # unread


def test_clean_counts_outcomes_and_codes_once() -> None:
    telemetry = telemetry_of("clean")
    batch = batch_of(40)
    cleaned = cleaned_of(
        batch, {"accepted": 30, "duplicate": 4, "LATE": 1, "INVALID": 3, "EMPTY": 2}
    )
    telemetry.source.polled(batch, dict.fromkeys(range(4), 10))
    telemetry.flow.step("judge", lambda _: cleaned, telemetry.flow.cleaned)(batch)
    telemetry.sinks.acknowledged(batch.timestamp[:30])
    samples = samples_of(telemetry._instruments.registry)
    outcomes = {
        labels[1]: n for (name, *labels), n in samples.items() if name == "shopstream_records_total"
    }
    assert outcomes == {"accepted": 30, "duplicate": 4, "late": 1, "rejected": 5}
    codes = {
        labels[0]: n
        for (name, *labels), n in samples.items()
        if name == "shopstream_refused_total" and n
    }
    assert codes == {"LATE": 1, "INVALID": 3, "EMPTY": 2}
    assert samples["shopstream_event_latency_seconds_count", "clean"] == 30
    assert samples["shopstream_step_seconds_count", "clean", "judge"] == 1
    assert samples["shopstream_batch_records_sum", "clean"] == 40
    assert samples["shopstream_lag_records", "clean", "2", "raw.web"] == 10


def test_metrics_counts_repeats_and_waits_for_the_commit_of_the_rows() -> None:
    telemetry = telemetry_of("metrics")
    batch = batch_of(40)
    telemetry.source.polled(batch, {})

    telemetry.flow.counted(Counted(batch.timestamp[:35], 4, [Code.BAD_MAGIC], caught_up=True))
    assert (
        samples_of(telemetry._instruments.registry)[
            "shopstream_event_latency_seconds_count", "metrics"
        ]
        == 0
    )
    telemetry.sinks.submitted()
    telemetry.flow.counted(Counted(batch.timestamp[35:], 0, [], caught_up=True))
    telemetry.sinks.rows_committed({"gold.orders_1m": UpsertCounts(1, 2, 3)})
    telemetry.sinks.rows_committed({"gold.orders_1m": UpsertCounts(1, 0, 0)})
    samples = samples_of(telemetry._instruments.registry)
    assert samples["shopstream_event_latency_seconds_count", "metrics"] == 35
    assert samples["shopstream_records_total", "metrics", "accepted"] == 40
    assert samples["shopstream_records_total", "metrics", "duplicate"] == 4
    assert samples["shopstream_refused_total", "BAD_MAGIC", "metrics"] == 1
    rows = {
        labels[0]: n for (name, *labels), n in samples.items() if name == "shopstream_rows_total"
    }
    assert rows == {"inserted": 2, "updated": 2, "unchanged": 3}


def test_polls_without_records_are_left_out() -> None:
    telemetry = telemetry_of("clean")
    telemetry.source.polled(batch_of(0), {})
    telemetry.flow.step("decode", lambda item: item)(None)
    samples = samples_of(telemetry._instruments.registry)
    assert samples["shopstream_batch_records_count", "clean"] == 0
    assert samples["shopstream_step_seconds_count", "clean", "decode"] == 0


@pytest.mark.parametrize("records", [100, 1_000])
def test_a_batch_costs_less_than_50_microseconds(records: int) -> None:
    """Everything that clean tells of a batch. The fastest of many rounds: what slows one down is
    the machine, not we."""
    telemetry = telemetry_of("clean")
    batch = batch_of(records)
    assert batch.rows_by_partition
    cleaned = cleaned_of(batch, {"accepted": records - 3, "LATE": 1, "INVALID": 2})
    ends = dict.fromkeys(range(4), records)
    decode = telemetry.flow.step("decode", lambda item: item)
    judge = telemetry.flow.step("judge", lambda _: cleaned, telemetry.flow.cleaned)
    fastest = 1.0
    for _ in range(2_000):
        began = time.perf_counter()
        telemetry.source.passed()
        telemetry.source.polled(batch, ends)
        judge(decode(batch))
        telemetry.sinks.acknowledged(batch.timestamp)
        fastest = min(fastest, time.perf_counter() - began)
    assert fastest < 50e-6


# log lines


def test_a_line_is_json_with_the_flow_and_where_it_was() -> None:
    out = io.StringIO()
    logs.configure("json", "info", out, flow="clean", process="1/2")
    structlog.get_logger("flows").warning("something", topic="raw.web", partition=3, offsets=(7, 9))
    logging.getLogger("librdkafka").error("a library's %s", "word")
    ours, theirs = map(json.loads, out.getvalue().splitlines())
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {
        "level": "warning",
        "flow": "clean",
        "event": "something",
        "process": "1/2",
        "topic": "raw.web",
        "partition": 3,
        "offsets": [7, 9],
    }
    assert (theirs["event"], theirs["level"], theirs["flow"]) == (
        "a library's word",
        "error",
        "clean",
    )


def test_what_is_below_the_level_is_not_written() -> None:
    out = io.StringIO()
    logs.configure("json", "warning", out)
    structlog.get_logger("flows").info("something")
    logging.getLogger("psycopg").info("something")
    assert out.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("form", "out", "is_json"),
    [
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("text", io.StringIO(), False),
        ("json", Terminal(), True),
    ],
)
def test_a_person_at_a_terminal_reads_text(form: str, out: io.StringIO, is_json: bool) -> None:
    logs.configure(form, "info", out, flow="clean")
    structlog.get_logger("flows").info("reading", topic="raw.web")
    assert out.getvalue().startswith("{") == is_json
    assert "raw.web" in out.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_bug_is_told_with_its_trace_and_without_local_values(form: str) -> None:
    out = io.StringIO()
    logs.configure(form, "info", out)

    def break_down() -> None:
        password = "hun" + "ter2"
        raise ValueError(f"no password of {len(password)} letters")

    try:
        break_down()
    except ValueError as error:
        structlog.get_logger("flows").critical("the flow has failed", exc_info=error)
    assert "break_down" in out.getvalue()
    assert "ValueError: no password of 7 letters" in out.getvalue()
    assert "hunter2" not in out.getvalue()
    assert form == "text" or len(out.getvalue().splitlines()) == 1


def test_refused_records_are_told_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry = telemetry_of("clean")
    batch = batch_of(8)
    telemetry.source.polled(batch, {})
    for _ in range(20):
        telemetry.flow.cleaned(cleaned_of(batch, {"INVALID": 1}))
    monkeypatch.setattr(telemetry.flow, "_reported_at", time.monotonic() - 60)
    telemetry.flow.cleaned(cleaned_of(batch, {"EMPTY": 2}))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (told_line,) = [line for line in lines if line["event"].startswith("records were refused")]
    assert told_line["codes"] == {"INVALID": 20, "EMPTY": 2}
    assert told_line["offsets"]["1"] == [0, 1]


# serving


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_is_200_or_503_with_a_line() -> None:
    verdict = Verdict(True, "ok: nothing waits")
    server = http.serve(("127.0.0.1", 0), Instruments("clean").registry, lambda: verdict)
    port = server.server_address[1]
    try:
        assert get(port, "/healthz") == (200, "ok: nothing waits\n")
        verdict = Verdict(False, "no progress for 31 s")
        assert get(port, "/healthz?now") == (503, "no progress for 31 s\n")
        assert get(port, "/")[0] == 404
        assert "process_cpu_seconds_total" in get(port, "/metrics")[1]
    finally:
        server.shutdown()
        server.server_close()


def test_a_port_that_is_taken_is_named() -> None:
    server = http.serve(("127.0.0.1", 0), CollectorRegistry(), lambda: Verdict(True, ""))
    try:
        with pytest.raises(
            TransientError, match=f"127.0.0.1:{server.server_address[1]}: Address already in use"
        ):
            http.serve(
                ("127.0.0.1", server.server_address[1]),
                CollectorRegistry(),
                lambda: Verdict(True, ""),
            )
    finally:
        server.shutdown()
        server.server_close()
