"""The command line: `shopstream-generate` or `python -m generators`, run | replay | scenarios."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from generators.config import FORMS, SINKS, Contract, ReplayPlan, Report, RunPlan, Target
from generators.errors import ConfigError, ShopstreamError
from generators.faults.catalogue import FAULTS, GROUPS, expand
from generators.runner import replay, run
from generators.scenarios import SCENARIOS
from generators.sending.schedule import SHAPES
from generators.settings import PipelineSettings, read_pipeline_settings

SCRIPT, MODULE = "shopstream-generate", "python -m generators"

_RUN_EXAMPLES = """examples:
  %(prog)s --rate 1000 --duration 30 --ledger out/ledger
  %(prog)s --scenario flash_sale --rate 5000 --duration 60 --seed 7 --ledger out/sale
  %(prog)s --scenario perf --events 2000000 --rate 100000 --speed 0
  %(prog)s --fault late=0.05 --fault corrupt=0.01 --ledger out/dirty
  %(prog)s --events 20 --sink stdout --format json --speed 0

exit codes: 0 done, 2 a wrong option, setting or file, 3 the ledger contradicts itself,
4 the broker is away or a record was not delivered, 130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code."""
    options = _parser(program()).parse_args(arguments)
    try:
        return int(options.command(options))
    except ShopstreamError as error:
        print(f"generators: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("generators: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # a reader of stdout has seen enough, as in `| head`
        return 0


def program() -> str:
    """Name the program as it was started, for the help and its examples."""
    return SCRIPT if Path(sys.argv[0]).stem == SCRIPT else MODULE


def _run(options: argparse.Namespace) -> int:
    pipeline = read_pipeline_settings()
    plan = RunPlan(
        target=_target(options, pipeline),
        scenario=options.scenario,
        rate=options.rate,
        duration_seconds=options.duration,
        events=options.events,
        seed=options.seed,
        start=options.start,
        speed=options.speed,
        shape=options.shape,
        faults=dict(options.fault),
        contract=_contract(options, pipeline),
        ledger=options.ledger,
        visitors=options.visitors,
        products=options.products,
    )
    _print_report(run(plan), plan.ledger)
    return 0


def _replay(options: argparse.Namespace) -> int:
    pipeline = read_pipeline_settings()
    plan = ReplayPlan(
        target=_target(options, pipeline),
        source=options.file,
        speed=options.speed,
        contract=_contract(options, pipeline),
        ledger=options.ledger,
    )
    report = replay(plan)
    _print_report(report, plan.ledger)
    if report.rejected_rows:
        place = (
            f", listed in {report.rejected_file}"
            if report.rejected_file
            else " (--ledger lists them)"
        )
        print(f"{report.rejected_rows} rows could not be read{place}", file=sys.stderr)
    return 0


def _scenarios(options: argparse.Namespace) -> int:
    if options.faults:
        for fault in FAULTS.values():
            print(f"{fault.name:28} {fault.group:8} {fault.expects:24} {fault.help}")
        return 0
    for scenario in SCENARIOS.values():
        extra = sum(expand(scenario.faults).values())
        print(f"{scenario.name:16} {scenario.shape:11} {extra:6.1%} extra  {scenario.help}")
    return 0


def _print_report(report: Report, ledger: Path | None) -> None:
    """Print to stderr: stdout may be the sink."""
    line = (
        f"sent {report.sent} records ({report.healthy} healthy) in {report.seconds:.1f} s,"
        f" {report.per_second:,.0f}/s; behind the schedule p99 {report.behind_p99_ms:.0f} ms, max"
        f" {report.behind_max_ms:.0f} ms"
    )
    print(line, file=sys.stderr)
    if ledger is not None:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(report.counts.items()))
        print(f"ledger {ledger}: {counts}", file=sys.stderr)


def _target(options: argparse.Namespace, pipeline: PipelineSettings) -> Target:
    if options.sink == "file" and options.out is None:
        raise ConfigError("--sink file needs --out FILE")
    return Target(
        sink=options.sink,
        bootstrap=options.bootstrap or pipeline.bootstrap,
        security=pipeline.security,
        topic=options.topic or pipeline.topic,
        registry_url=pipeline.registry_url,
        path=options.out,
        form=options.format,
    )


def _contract(options: argparse.Namespace, pipeline: PipelineSettings) -> Contract:
    if options.lateness is None:
        return pipeline.contract
    return replace(pipeline.contract, lateness=timedelta(seconds=options.lateness))


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    if name not in FAULTS and name not in GROUPS:
        raise argparse.ArgumentTypeError(
            f"unknown fault {name!r}; see: {program()} scenarios --faults"
        )
    try:
        return name, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SHARE") from None


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Shop traffic with an answer key.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run_command = commands.add_parser(
        "run",
        help="send synthetic shoppers",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_RUN_EXAMPLES,
        description="Send synthetic shoppers on an open loop, with faults.",
    )
    _add_run_options(run_command)
    _add_shared_options(run_command, speed=1.0)
    run_command.set_defaults(command=_run)
    replay_command = commands.add_parser(
        "replay",
        help="send a real shop's invoices",
        description=(
            "Send a CSV in the layout of the UCI Online Retail data set, plain or gzip: one event"
            " per invoice."
        ),
    )
    replay_command.add_argument("file", type=Path, metavar="FILE", help="the CSV")
    _add_shared_options(replay_command, speed=0.0)
    replay_command.set_defaults(command=_replay)
    listing = commands.add_parser("scenarios", help="list scenarios or faults")
    listing.add_argument(
        "--faults", action="store_true", help="list the faults and what must become of them"
    )
    listing.set_defaults(command=_scenarios)
    return parser


def _add_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--scenario",
        choices=SCENARIOS,
        default="faults",
        metavar="NAME",
        help="mixture of shape and faults, listed by `scenarios` (default: faults)",
    )
    command.add_argument(
        "--rate", type=float, default=1000, help="healthy events per second (default: 1000)"
    )
    command.add_argument(
        "--duration", type=float, default=30, metavar="SECONDS", help="length (default: 30)"
    )
    command.add_argument(
        "--events", type=int, metavar="N", help="healthy events in all, instead of a duration"
    )
    command.add_argument(
        "--seed", type=int, default=1, help="same seed and start, same bytes (default: 1)"
    )
    command.add_argument(
        "--shape", choices=SHAPES, help="shape of the load, instead of the scenario's"
    )
    command.add_argument(
        "--fault",
        type=_share,
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help=(
            "extra records per healthy event, of one fault or spread over a group"
            f" ({', '.join(GROUPS)}); may be repeated"
        ),
    )
    command.add_argument(
        "--start", type=datetime.fromisoformat, metavar="ISO", help="event time of the start, UTC"
    )
    command.add_argument(
        "--visitors", type=int, default=20_000, help="shoppers known (default: 20000)"
    )
    command.add_argument("--products", type=int, default=400, help="products sold (default: 400)")


def _add_shared_options(command: argparse.ArgumentParser, speed: float) -> None:
    command.add_argument(
        "--ledger", type=Path, metavar="DIR", help="write the answer key into this folder"
    )
    command.add_argument(
        "--speed",
        type=float,
        default=speed,
        metavar="X",
        help=(
            "event seconds per second; 60: one hour per minute, 0: as fast as possible"
            f" (default: {speed:g})"
        ),
    )
    command.add_argument("--sink", choices=SINKS, default="kafka", help="where to (default: kafka)")
    command.add_argument("--out", type=Path, metavar="FILE", help="the file of --sink file")
    command.add_argument(
        "--format",
        choices=FORMS,
        default="avro",
        help="of file and stdout: avro (length-prefixed) or json lines (default: avro)",
    )
    command.add_argument(
        "--bootstrap", metavar="HOST:PORT", help="instead of KAFKA_BOOTSTRAP_SERVERS"
    )
    command.add_argument("--topic", help="instead of SHOPSTREAM_TOPIC_RAW_WEB (raw.web)")
    command.add_argument(
        "--lateness",
        type=float,
        metavar="SECONDS",
        help="instead of SHOPSTREAM_ALLOWED_LATENESS_SECONDS; the flows need the same",
    )


if __name__ == "__main__":
    sys.exit(main())
