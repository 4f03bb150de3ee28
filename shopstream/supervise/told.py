"""What a flow's process said: its log, read back as lines for a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flows.runtime.telemetry.logs import READING

LAST = 20


def event_of(line: str) -> dict[str, Any] | None:
    """The fields of a log line; None for what was no log line, such as a setting that is wrong."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "event" in found else None


def lines_since(log: Path, start: int) -> list[str]:
    """What was written to the log from `start` (bytes) on."""
    with log.open("rb") as file:
        file.seek(start)
        return [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]


def has_said(what: str, log: Path, start: int) -> bool:
    """Whether a process told of the event since then."""
    return any(
        (event := event_of(line)) is not None and event["event"] == what
        for line in lines_since(log, start)
    )


def is_reading(log: Path, start: int) -> bool:
    """Whether the flow has found its partitions since then."""
    return has_said(READING, log, start)


def last_words(log: Path, start: int) -> str:
    """Why a process ended: the cause that a stop which we foresaw names, else the last line."""
    lines = lines_since(log, start)[-LAST:]
    if not lines:
        return ""
    event = event_of(lines[-1])
    return lines[-1] if event is None else str(event.get("error", event["event"]))
