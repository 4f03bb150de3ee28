"""`shopstream drill NAME`: make a fault on real services, and prove the numbers afterwards."""

from __future__ import annotations

import argparse

from flows.domain.errors import ConfigError
from shopstream.demo.dev_services import from_environment, native

try:
    from shopstream.drills.registry import DRILLS, Outcome, keep, play
except ModuleNotFoundError as missing:
    raise ConfigError(f"a drill needs a checkout of the project: {missing}") from missing


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(DRILLS)}, or all; none lists them"
    )
    parser.add_argument("--small", action="store_true", help="those of CI, and as small")
    parser.add_argument("--seed", type=int, help="of what is random (drawn)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="OPTION=N", help="a number of the drill"
    )
    parser.add_argument("--keep", action="store_true", help="write bench/results/drills.json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run drills one after the other; exit code 1 when one fails."""
    names = list(DRILLS) if args.names == ["all"] else args.names
    if args.small and not names:
        names = [name for name, drill in DRILLS.items() if drill.small is not None]
    if not names:
        for drill in DRILLS.values():
            defaults = " ".join(f"{name}={n}" for name, n in drill.options.items())
            print(f"{drill.name:<12} {drill.about}{f' ({defaults})' if defaults else ''}")
        return 0
    unknown = [name for name in names if name not in DRILLS]
    if unknown:
        raise ConfigError(f"no such drill: {', '.join(unknown)}; `shopstream drill` lists them")
    services = from_environment() or native()
    if services is None and any(not DRILLS[name].private for name in names):
        raise ConfigError("a drill needs real services: run `make services` first")
    options = dict(map(_number, args.set))
    outcomes = []
    for name in names:
        drill = DRILLS[name]
        numbers: dict[str, int] = dict((drill.small or {}) if args.small else {})
        numbers |= {key: value for key, value in options.items() if key in drill.options}
        print(f"{name}: {drill.about}", flush=True)
        outcomes.append(play(drill, services, args.seed, numbers))
        print(line_of(outcomes[-1]), flush=True)
        if args.keep:
            keep(outcomes[-1:])
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def line_of(outcome: Outcome) -> str:
    """Say how a drill ended."""
    word = "passed" if outcome.passed else "FAILED"
    line = f"{outcome.drill} {word} in {outcome.seconds:.0f} s, seed {outcome.seed}"
    return f"{line}: {outcome.why}" if outcome.why else f"{line}: {outcome.did}"


def _number(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.lstrip("-").isdigit():
        raise ConfigError(f"--set {text}: it must be OPTION=N")
    return name, int(number)
