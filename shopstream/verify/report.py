"""What `verify` found, on a terminal, as JUnit XML and as numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shopstream.verify.checks import Check

SHOWN = 8
# nobody reads more, and a run that went wrong differs in every record
MOST_IN_JUNIT = 1000


@dataclass(frozen=True)
class Report:
    """All checks of a run.

    Units: events of the ledger, rows of gold views that it expects. `unproved` names the measures
    that the answer key does not know.
    """

    events: int
    rows: int
    checks: list[Check]
    unproved: list[str]
    losses: list[str] = field(default_factory=list)
    """Lines of the ledger of losses: they are told, and are no differences."""

    @property
    def differences(self) -> int:
        """How many things differ."""
        return sum(len(c.differences) for c in self.checks)

    @property
    def line(self) -> str:
        """The verdict in one line."""
        word = "verified" if self.differences == 0 else "NOT verified"
        return f"{word}: {self.events} events, {self.rows} rows, {self.differences} differences"


def show(report: Report, console: Console) -> None:
    """Print the table of checks, the first differences of each, and the verdict as last line."""
    table = Table("check", "compared", "different", box=None)
    for check in report.checks:
        different = str(len(check.differences)) if check.differences else "-"
        table.add_row(check.name, f"{check.compared:,}", different)
    console.print(table)
    for check in report.checks:
        for difference in check.differences[:SHOWN]:
            console.print(
                f"  {check.name}: {difference}", markup=False, highlight=False, soft_wrap=True
            )
        if len(check.differences) > SHOWN:
            console.print(f"  {check.name}: and {len(check.differences) - SHOWN} more")
    if report.unproved:
        console.print(
            f"not in the answer key, so not proved: {', '.join(report.unproved)}", highlight=False
        )
    for loss in report.losses:
        console.print(f"lost: {loss}", markup=False, highlight=False, soft_wrap=True)
    console.print(report.line, highlight=False, soft_wrap=True)


def write_junit(report: Report, path: Path) -> None:
    """Write the checks as JUnit XML, which every CI shows."""
    suite = ET.Element("testsuite", name="shopstream verify", tests=str(len(report.checks)))
    suite.set("failures", str(sum(bool(c.differences) for c in report.checks)))
    for check in report.checks:
        case = ET.SubElement(suite, "testcase", name=check.name, classname="verify")
        if check.differences:
            failure = ET.SubElement(
                case, "failure", message=f"{len(check.differences)} differences"
            )
            failure.text = "\n".join(check.differences[:MOST_IN_JUNIT])
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
