"""The answer key of a run, as the generator wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.domain.errors import ConfigError

EVENTS = "events.parquet"
COLUMNS = (
    "partition",
    "offset",
    "payload_hash",
    "expected_outcome",
    "expected_code",
    "expected_rules",
)
OPTIONAL = ("event_time",)


class Ledger:
    """Every record that was sent with its expected outcome, and the expected gold rows.

    Errors: ConfigError for a folder that holds none.
    """

    def __init__(self, folder: Path) -> None:
        try:
            known = pq.read_schema(folder / EVENTS).names
            table = pq.read_table(
                folder / EVENTS, columns=[*COLUMNS, *(c for c in OPTIONAL if c in known)]
            )
        except FileNotFoundError:
            raise ConfigError(f"{folder} holds no ledger: {EVENTS} is missing") from None
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(f"{folder} holds no ledger: {error}") from error
        self._folder = folder
        self.events: list[dict[str, Any]] = table.to_pylist()

    def columns(self, view: str) -> set[str]:
        """Name what the answer key knows of a view; nothing of one that it does not know."""
        path = self._path(view)
        return set(pq.read_schema(path).names) if path.exists() else set()

    def gold(self, view: str) -> pa.Table:
        """Read the expected rows of a view."""
        return pq.read_table(self._path(view))

    def _path(self, view: str) -> Path:
        return self._folder / "gold" / f"{view}.parquet"
