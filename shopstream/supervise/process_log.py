"""The log of a supervised process, read back: its last words, and whether it logged an event."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def event_of(line: str) -> dict[str, Any] | None:
    """Give the fields of a log line, or None for other output, such as that of a wrong setting."""
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and "event" in fields else None


def lines_since(log: Path, start: int) -> list[str]:
    """Read the lines that were written from a byte of the file on."""
    with log.open("rb") as file:
        file.seek(start)
        return [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]


def has_logged(event: str, log: Path, start: int) -> bool:
    """Tell whether the process has logged an event since a byte of the file."""
    return any(
        (fields := event_of(line)) is not None and fields["event"] == event
        for line in lines_since(log, start)
    )


def last_words(log: Path, start: int) -> str:
    """Tell why a process ended: the error of its last log line, else that line."""
    lines = lines_since(log, start)
    if not lines:
        return ""
    fields = event_of(lines[-1])
    return lines[-1] if fields is None else str(fields.get("error", fields["event"]))
