"""The operator's command: `shopstream <command>`, or `python -m shopstream <command>`."""

from __future__ import annotations

import argparse
import sys

from flows.domain.errors import ShopstreamError
from flows.runtime.settings import FIELDS, environment_name
from flows.runtime.telemetry import logs
from shopstream import (
    annotate,
    doctor,
    healthcheck,
    migrate,
    retention,
    rollup,
    topics,
    up,
)
from shopstream.backfill import load
from shopstream.demo import play
from shopstream.verify import compare

COMMANDS = {
    "demo": ("the whole road once, from events to proved numbers", play.add),
    "up": ("run all flows as supervised processes", up.add),
    "migrate": ("make the database fit the metric catalogue", migrate.add),
    "topics": ("make the Kafka topics, or mend their settings", topics.add),
    "rollup": ("bring hours and days up to date with the minutes", rollup.add),
    "retention": ("forget what is older than the settings keep", retention.add),
    "history": ("fill days gone by with synthetic rows, or take them away", load.add),
    "annotate": ("put a mark on the dashboards' time axis", annotate.add),
    "verify": ("compare what the pipeline made with a ledger", compare.add),
    "incoming": ("tell by the exit code whether records come in", healthcheck.add),
    "doctor": ("look at settings, broker, topics, database and clock", doctor.add),
}


def settings_help() -> str:
    width = max(len(environment_name(f)) for f in FIELDS)
    rows = [
        f"  {environment_name(name):<{width}}  {field.description}"
        f" ({'none' if field.default is None else field.default})"
        for name, field in FIELDS.items()
    ]
    return "\n".join(("settings, from the environment (default in brackets):", *rows))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m shopstream",
        description=__doc__,
        epilog=settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, (text, add) in COMMANDS.items():
        add(commands.add_parser(name, help=text, description=text))
    args = parser.parse_args()
    logs.configure("text", "warning")
    try:
        return int(args.run(args))
    except ShopstreamError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
