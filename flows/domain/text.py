"""Find NUL characters in the texts of events, and make any text printable."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from flows.domain.family import Family

# What Python's str.strip() removes. Polars by default leaves some of them, such as \x1c.
WHITESPACE = "".join(chr(i) for i in range(0x3001) if chr(i).isspace())


def printable(value: object, most: int = 200) -> str:
    """Make a text that any log, table or terminal can show.

    Control characters are escaped, and at most `most` characters are kept.
    """
    text = value if isinstance(value, str) else str(value)
    if not text.isprintable():
        text = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:most]
        )
    return text if len(text) <= most else text[: most - 1] + "…"


class NulFinder:
    """Find the events of a family that hold a NUL character in a text: PostgreSQL takes none."""

    def __init__(self, family: Family) -> None:
        self._texts = family.texts
        self._items = family.items
        holds = pl.any_horizontal(
            pl.col(f).str.contains("\0", literal=True).fill_null(False) for f in family.texts
        )
        if family.items is not None and family.items.texts:
            in_item = pl.any_horizontal(
                pl.element().struct.field(f).str.contains("\0", literal=True)
                for f in family.items.texts
            )
            holds |= pl.col(family.items.name).list.eval(in_item).list.any()
        self._holds = holds

    def expression(self, columns: pa.RecordBatch) -> pl.Expr:
        """Give the expression that marks, among these events, those that hold one."""
        # Searching text by text costs a thousand times what one look through their memory costs,
        # and nearly every batch has no NUL at all.
        return self._holds if any(map(_has_zero, self._texts_of(columns))) else pl.lit(False)

    def _texts_of(self, columns: pa.RecordBatch) -> list[pa.Array]:
        texts = [columns.column(f) for f in self._texts]
        if self._items is not None:
            flat = columns.column(self._items.name).flatten()
            texts += [flat.field(f) for f in self._items.texts]
        return texts

    def field_of(self, event: dict[str, object]) -> str:
        """Name the first field of an event that holds a NUL; empty where none does."""
        for name in self._texts:
            if "\0" in str(event[name] or ""):
                return name
        if self._items is not None:
            items = event[self._items.name]
            assert isinstance(items, list)
            for name in self._items.texts:
                if any("\0" in item[name] for item in items):
                    return f"{self._items.name}.{name}"
        return ""


def _has_zero(texts: pa.Array) -> bool:
    """Say whether there is a zero byte anywhere in the memory of the texts."""
    # also in what a slice leaves out: one too many only costs the search text by text
    data = texts.buffers()[-1]
    return data is not None and not np.frombuffer(data, np.uint8).all()
