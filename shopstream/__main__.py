"""The operator's command: `shopstream <command>`, or `python -m shopstream <command>`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg
from confluent_kafka import KafkaException

from database.connection import failure_of
from flows.domain.errors import ShopstreamError, TransientError
from flows.runtime.settings import FIELDS, environment_name
from flows.runtime.telemetry import logs

COMMANDS = {
    "demo": ("shopstream.demo_command", "the whole way once, from events to proved numbers"),
    "up": ("shopstream.up", "run all flows as supervised processes"),
    "migrate": ("shopstream.migrate", "make the database fit the metric catalogue"),
    "topics": ("shopstream.topics", "make the Kafka topics, or correct their settings"),
    "rollup": ("shopstream.rollup", "bring hours and days up to date with the minutes"),
    "retention": ("shopstream.retention", "drop what is older than the settings keep"),
    "history": ("shopstream.history", "fill past days with synthetic rows, or remove them"),
    "accept-loss": ("shopstream.accept_loss", "let a flow go on without records that are gone"),
    "reattach": ("shopstream.reattach", "go on with topics that were made anew"),
    "rewind": ("shopstream.rewind", "read a flow's topic again, from its beginning"),
    "thresholds": ("shopstream.thresholds", "show the limits of alerts, or move them"),
    "journeys": ("shopstream.journeys_command", "print what a visitor did, session by session"),
    "products": ("shopstream.products", "give products the names that boards show"),
    "annotate": ("shopstream.annotate", "put a mark on the dashboards' time axis"),
    "verify": ("shopstream.verify_command", "compare the pipeline's output with a ledger"),
    "drill": ("shopstream.drill", "make a fault on real services, and prove the numbers"),
    "incoming": ("shopstream.healthcheck", "show by the exit code whether records come in"),
    "doctor": ("shopstream.doctor_command", "check settings, broker, topics, database and clock"),
}
"""Name -> module and help. A module has `add(parser)` and `run(args)`."""


def settings_help() -> str:
    """List every setting with its default."""
    width = max(len(environment_name(f)) for f in FIELDS)
    rows = [
        f"  {environment_name(name):<{width}}  {field.description}"
        f" ({'none' if field.default is None else field.default})"
        for name, field in FIELDS.items()
    ]
    return "\n".join(("settings, from the environment (default in brackets):", *rows))


def parser_for(words: Sequence[str]) -> argparse.ArgumentParser:
    """Make the parser of a command line; only the command that it names is imported.

    Importing all of them costs 0.9 s of CPU instead of 0.3 (a healthcheck runs every few seconds),
    and needs packages that only the demo and the history use.
    """
    is_module = Path(sys.argv[0]).name == "__main__.py"
    parser = argparse.ArgumentParser(
        prog="python -m shopstream" if is_module else None,
        description=__doc__,
        epilog=settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name in words[:1]:
            importlib.import_module(module).add(command)
    return parser


def main() -> int:
    """Run the command of the command line; a failure is one line on stderr and an exit code."""
    words = sys.argv[1:]
    args = parser_for(words).parse_args(words)
    logs.configure("text", "warning")
    try:
        return int(args.run(args))
    except (ShopstreamError, psycopg.Error, KafkaException) as error:
        failure = own_failure(error)
        print(f"{type(failure).__name__}: {failure}", file=sys.stderr)
        return failure.exit_code


def own_failure(error: ShopstreamError | psycopg.Error | KafkaException) -> ShopstreamError:
    """Give the error of this project that a client library's error means."""
    if isinstance(error, psycopg.Error):
        return failure_of(error)
    if isinstance(error, KafkaException):
        return TransientError(f"Kafka does not answer: {error.args[0].str()}")
    return error


if __name__ == "__main__":
    sys.exit(main())
