"""`python -m tools.contracts`: write the contracts in avro/ that follow from those of families.

A family's contract is written by hand. That of an accepted event (the raw event, then where it came
from) and that of a batch of them follow from it. With `--publish`, each contract that differs from
its newest version in avro/history/ becomes the next version there: from then on decoders read it,
and every later version must be compatible with it (tests/unit/flows/test_schema_compatibility.py).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from flows.connectors.avro.schemas import Schema, published
from flows.domain.families import FAMILIES
from flows.domain.family import Family
from flows.runtime.paths import ROOT

AVRO = ROOT / "avro"
# those of no family, written by hand
OWN_CONTRACTS = ("dead_letter", "outcome_tally", "rule_tally", "offset_tally", "loss")
SOURCE_FIELDS = [
    {"name": "source_partition", "type": "int", "doc": "Partition of the raw topic."},
    {"name": "source_offset", "type": "long", "doc": "Offset in the raw topic."},
    {
        "name": "source_timestamp",
        "type": {"type": "long", "logicalType": "timestamp-millis"},
        "doc": "Kafka timestamp of the raw record.",
    },
    {
        "name": "source_incarnation",
        "type": "int",
        "doc": "Which topic of that name the offset is of; 0 where it is not known.",
        "default": 0,
    },
    {
        "name": "accepted",
        "type": "long",
        "doc": "The event is the n-th accepted one of its partition and incarnation; 0: unknown.",
        "default": 0,
    },
]


def derived(family: Family) -> dict[Path, str]:
    """Give the text of each file that follows from a family's contract."""
    raw = json.loads((AVRO / f"{family.contract}.avsc").read_text())
    events = family.title[0].lower() + family.title[1:]
    name = family.name.title().replace("_", "")
    clean = raw | {
        "name": f"Clean{name}Event",
        "doc": f"An accepted {events.removesuffix('s')}, and where its raw record stands.",
        "fields": [*raw["fields"], *SOURCE_FIELDS],
    }
    batch = {
        "type": "record",
        "name": f"Clean{name}Batch",
        "namespace": raw["namespace"],
        "doc": f"Accepted {events} of one partition, in offset order.",
        "fields": [{"name": "events", "type": {"type": "array", "items": clean}}],
    }
    return {
        AVRO / f"{family.clean_contract}.avsc": _text(clean),
        AVRO / f"{family.batch_contract}.avsc": _text(batch),
    }


def publish(contract: str) -> Path | None:
    """Add a contract to the history; None where its newest version is the same."""
    text = (AVRO / f"{contract}.avsc").read_text()
    versions = published(contract)
    if versions and versions[-1] == Schema(json.loads(text)):
        return None
    path = AVRO / "history" / f"{contract}.v{len(versions) + 1}.avsc"
    path.write_text(text)
    return path


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2) + "\n"


def main() -> int:
    """Write or check the files, and publish."""
    parser = argparse.ArgumentParser(prog="python -m tools.contracts", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where one differs"
    )
    parser.add_argument(
        "--publish", action="store_true", help="also add new versions to the history"
    )
    args = parser.parse_args()
    files = {path: text for family in FAMILIES for path, text in derived(family).items()}
    changed = [p for p, text in files.items() if not p.exists() or p.read_text() != text]
    for path in changed:
        print(f"{path.relative_to(ROOT)}: {'differs' if args.check else 'written'}")
        if not args.check:
            path.write_text(files[path])
    if args.publish:
        of_families = (
            contract
            for family in FAMILIES
            for contract in (family.contract, family.clean_contract, family.batch_contract)
        )
        for contract in (*of_families, *OWN_CONTRACTS):
            if (version := publish(contract)) is not None:
                print(f"{version.relative_to(ROOT)}: published")
    return 1 if args.check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
