"""The command line: every command is there, and a failure is one line and an exit code."""

from __future__ import annotations

import argparse
import subprocess
import sys

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException

from flows.domain.errors import ConfigError, PermanentError
from flows.runtime.paths import ROOT
from shopstream import __main__ as command_line


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_a_command_takes_its_options_and_runs(name: str) -> None:
    needed = {
        "accept-loss": ["clean"],
        "annotate": ["deployment", "web 4.2"],
        "journeys": ["show", "v-1"],
        "products": ["names.csv"],
        "rewind": ["metrics"],
        "verify": ["--ledger", "ledger"],
    }
    words = [name, *needed.get(name, [])]
    assert callable(command_line.parser_for(words).parse_args(words).run)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("--days must be 1 or more"), 2, "ConfigError: --days must be 1 or more"),
        (PermanentError("no topic"), 3, "PermanentError: no topic"),
        (
            psycopg.errors.UndefinedTable('relation "ops.jobs" does not exist'),
            3,
            'PermanentError: database: relation "ops.jobs" does not exist; run `python -m'
            " shopstream migrate`, as the owner",
        ),
        (
            psycopg.OperationalError("the connection is closed"),
            4,
            "TransientError: database: the connection is closed",
        ),
        (
            KafkaException(KafkaError(KafkaError._TRANSPORT, "broker away")),
            4,
            "TransientError: Kafka does not answer: broker away",
        ),
    ],
)
def test_a_failure_is_a_line_on_stderr_with_the_exit_code_of_its_class(
    error: Exception,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise error

    def parser_for(_: list[str]) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser()
        parser.set_defaults(run=fail)
        return parser

    monkeypatch.setattr(command_line, "parser_for", parser_for)
    monkeypatch.setattr(sys, "argv", ["shopstream"])
    assert command_line.main() == code
    assert capsys.readouterr() == ("", f"{line}\n")


def test_help_and_a_supervised_job_import_no_generator() -> None:
    """It need not be installed where only flows run."""
    for words in ([], ["rollup"], ["incoming"]):
        code = (
            f"import sys; from shopstream.__main__ import parser_for; parser_for({words});"
            " print({m.partition('.')[0] for m in sys.modules} & {'generators', 'faker'})"
        )
        process = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert process.stdout == "set()\n", process.stderr
