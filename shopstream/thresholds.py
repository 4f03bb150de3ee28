"""`shopstream thresholds`: show the limits of alerts, or move them, for all or for one shop."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping

from database.connection import connect
from database.thresholds import LIMITS, known_shops, own_limits, reset_limit, set_limit
from flows.domain.errors import ConfigError
from flows.runtime.settings import settings_or_exit


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    actions = parser.add_subparsers(metavar="action", dest="action")
    actions.add_parser("list", help="show all limits (without an action too)")
    move = actions.add_parser("set", help="move a limit; the alert follows within a minute")
    move.add_argument("name", help="the alert, as in the runbook's headings: revenue-drop")
    move.add_argument("act", type=float, help="fire beyond this number; shares are 0 to 1")
    back = actions.add_parser("reset", help="go back to the limit of all shops, or as shipped")
    back.add_argument("name", help="the alert")
    for one in (move, back):
        one.add_argument("--shop", default="", metavar="SHOP", help="only for this shop")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for, and print the limits that hold then."""
    settings = settings_or_exit()
    if args.action in ("set", "reset"):
        check(args.name, args.shop)
    with connect(settings.database_url, settings.startup_seconds) as db:
        if args.action == "set":
            if not math.isfinite(args.act):
                raise ConfigError(f"{args.act:g} is no limit")
            if args.shop and args.shop not in (shops := known_shops(db)):
                known = f": {', '.join(shops[:20])}" if shops else ""
                raise ConfigError(f"no shop {args.shop!r} has been seen{known}")
            set_limit(db, args.name, args.shop, args.act)
        elif args.action == "reset" and not reset_limit(db, args.name, args.shop):
            print(f"{args.name} has no limit of its own{' there' if args.shop else ''}")
        for line in lines(own_limits(db)):
            print(line)
    return 0


def check(name: str, shop: str) -> None:
    """Refuse what no alert would read.

    Errors: ConfigError.
    """
    if name not in LIMITS:
        raise ConfigError(f"no limit {name!r}: {', '.join(LIMITS)}")
    if shop and not LIMITS[name].of_shops:
        each = (n for n, limit in LIMITS.items() if limit.of_shops)
        raise ConfigError(f"{name} does not look at shops one by one; {' and '.join(each)} do")


def lines(own: Mapping[tuple[str, str], float]) -> Iterator[str]:
    """Write each limit, and below it those of single shops."""
    width = max(map(len, LIMITS))
    for name, limit in LIMITS.items():
        act = own.get((name, ""), limit.act)
        shipped = "" if act == limit.act else f"; shipped: {limit.act:g}"
        yield f"{name:<{width}}  {act:>8g}  {limit.about}{shipped}"
        for (of, shop), number in own.items():
            if of == name and shop:
                yield f"{'':<{width}}  {number:>8g}  in {shop}"
