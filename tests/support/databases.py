"""A migrated database, as tests look at one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from database.connection import connect


@dataclass(frozen=True)
class Database:
    url: str
    timescale: bool

    def connect(self) -> psycopg.Connection[Any]:
        return connect(self.url, 5.0)

    def query(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with self.connect() as db:
            return db.execute(statement, arguments).fetchall()  # type: ignore[call-overload]

    def execute(self, statement: str, *arguments: Any) -> None:
        with self.connect() as db:
            db.execute(statement, arguments or None)  # type: ignore[call-overload]
