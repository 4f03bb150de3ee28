"""`python -m tools.alarms`: how often alerts are wrong in a month, and how soon faults are found.

Takes half an hour for thirty days of three shops; writes bench/results/alarms.json, of which
`make render` makes the tables of docs/runbook.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.runtime.paths import ROOT
from shopstream.demo.dev_services import native
from tools.alarms.shops import SHOPS
from tools.alarms.simulate import RULES, SEED, false_alarms, found_after, of_shop, sight

RESULTS = ROOT / "bench" / "results" / "alarms.json"


def main(arguments: Sequence[str]) -> int:
    """Run the simulation; 1 where a bound is not kept."""
    parser = argparse.ArgumentParser(prog="python -m tools.alarms", description=__doc__)
    parser.add_argument("--days", type=int, default=30, metavar="N", help="healthy days (30)")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE")
    args = parser.parse_args(arguments)
    services = native()
    if services is None:
        print("alarms: needs a database: run `make services`", file=sys.stderr)
        return 2
    alarms: dict[str, dict[str, list[str]]] = {slug: {} for slug in RULES}
    faults: list[dict[str, Any]] = []
    for shop in SHOPS:
        with sight(services, shop, args.days) as seen:
            for slug, times in false_alarms(seen, args.days).items():
                alarms[slug][shop.name] = times
            for fault in of_shop(shop):
                after = found_after(seen, fault)
                faults.append(
                    {
                        "rule": fault.rule,
                        "shop": shop.name,
                        "what": fault.what,
                        "within_minutes": fault.within.total_seconds() / 60,
                        "found_minutes": after and after.total_seconds() / 60,
                    }
                )
                print(f"{fault.rule}, {shop.name} {fault.what}: {after}", flush=True)
        for slug in alarms:
            print(f"{slug}, {shop.name}: {len(alarms[slug][shop.name])} false alarms", flush=True)
    args.out.write_text(
        json.dumps(
            {
                "command": f"python -m tools.alarms --days {args.days}",
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "days": args.days,
                "seed": SEED,
                "false_alarms": alarms,
                "faults": faults,
            },
            indent=1,
        )
        + "\n"
    )
    wrong = broken(alarms, faults)
    for line in wrong:
        print(f"alarms: {line}", file=sys.stderr)
    return int(bool(wrong))


def broken(alarms: dict[str, dict[str, list[str]]], faults: list[dict[str, Any]]) -> list[str]:
    """Name the rules that are wrong more than once, and the faults that are found too late."""
    often = [
        f"{rule}, {shop}: {len(times)} false alarms"
        for rule, by_shop in alarms.items()
        for shop, times in by_shop.items()
        if len(times) > 1
    ]
    late = [
        f"{f['rule']}, {f['shop']} {f['what']}: found after {f['found_minutes']} minutes"
        for f in faults
        if f["found_minutes"] is None or f["found_minutes"] > f["within_minutes"]
    ]
    return often + late


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
