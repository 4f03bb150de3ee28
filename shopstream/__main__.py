"""The operator's command: `python -m shopstream <command>`."""

from __future__ import annotations

import argparse
import sys

from flows.domain.errors import ShopstreamError
from flows.runtime import logins, topics
from flows.runtime.migrate import migrate
from flows.runtime.settings import Settings, environment_name, settings_or_exit
from flows.runtime.telemetry import logs
from shopstream import annotate, demo, doctor, growing, history, pages, rollup, up, verify


def add_migrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--login", action="append", default=[], metavar="NAME=GROUP:FILE",
        help="also make a login role, a member of the group reader or writer, with the password in the file; may be repeated",
    )  # fmt: skip
    parser.set_defaults(run=run_migrate)


def run_migrate(args: argparse.Namespace) -> int:
    settings = settings_or_exit()
    wanted = [logins.Login.parse(text) for text in args.login]
    done = migrate(settings.database_url, settings.startup_seconds)
    print(f"database is up to date (edition {done.edition}); new: {', '.join(done.applied) or 'nothing'}")
    logins.ensure(settings.database_url, wanted, settings.startup_seconds)
    for login in wanted:
        print(f"login {login.name} is a member of {login.group}")
    return 0


def add_topics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--partitions", type=int, default=4, metavar="N", help="of topics that are made now (4)")
    parser.add_argument(
        "--replication", type=int, default=-1, metavar="N", help="replication factor (the broker's default)"
    )
    parser.set_defaults(run=run_topics)


def run_topics(args: argparse.Namespace) -> int:
    if args.partitions < 1:
        print("--partitions must be 1 or more", file=sys.stderr)
        return 2
    for line in topics.ensure(settings_or_exit(), args.partitions, args.replication) or ["all topics are there"]:
        print(line)
    return 0


COMMANDS = {
    "demo": ("the whole road once, from events to proved numbers", demo.add),
    "up": ("run all flows as supervised processes", up.add),
    "migrate": ("make the database fit the metric catalogue", add_migrate),
    "topics": ("make the Kafka topics, or mend their settings", add_topics),
    "rollup": ("bring hours and days up to date with the minutes", rollup.add),
    "retention": ("forget what is older than the settings keep", rollup.add_retention),
    "history": ("fill days gone by with synthetic rows, or take them away", history.add),
    "annotate": ("put a mark on the dashboards' time axis", annotate.add),
    "verify": ("compare what the pipeline made with a ledger", verify.add),
    "pages": ("write the pages of docs/ that follow from code", pages.add),
    "growing": ("tell by the exit code whether records come in", growing.add),
    "doctor": ("look at settings, broker, topics, database and clock", doctor.add),
}


def settings_help() -> str:
    width = max(len(environment_name(f)) for f in Settings.model_fields)
    rows = [
        f"  {environment_name(name):<{width}}  {field.description} ({'none' if field.default is None else field.default})"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(("settings, from the environment (default in brackets):", *rows))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m shopstream", description=__doc__, epilog=settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
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
