"""`shopstream products FILE.csv`: give products the names that boards show beside their ids."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

from database.connection import connect
from flows.domain.errors import ConfigError
from flows.domain.text import printable
from flows.runtime.settings import settings_or_exit

MOST_LETTERS = 200
ID_LETTERS = 256


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", type=Path, help="a CSV file with a line of column names")
    parser.add_argument(
        "--id", default="product_id", metavar="COLUMN", help="column of the id (product_id)"
    )
    parser.add_argument(
        "--name", default="name", metavar="COLUMN", help="column of the name (name)"
    )
    parser.add_argument("--encoding", default="utf-8-sig", help="of the file (UTF-8)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Store all names of a file, or none where a line is wrong; names of other products stay."""
    settings = settings_or_exit()
    names = dict(read(args.file, args.id, args.name, args.encoding))
    if not names:
        raise ConfigError(f"{args.file} names no product")
    with connect(settings.database_url, settings.startup_seconds) as db, db.transaction():
        db.execute("CREATE TEMP TABLE named (product_id text, name text) ON COMMIT DROP")
        with db.cursor() as cursor, cursor.copy("COPY named FROM STDIN") as out:
            for row in names.items():
                out.write_row(row)
        changed = db.execute(
            "INSERT INTO gold.product_names AS known (product_id, name) SELECT * FROM named"
            " ON CONFLICT (product_id) DO UPDATE SET name = excluded.name"
            " WHERE known.name <> excluded.name"
        ).rowcount
    print(f"{len(names):,} products named, {changed:,} of them new or changed")
    return 0


def read(path: Path, id_column: str, name_column: str, encoding: str) -> Iterator[tuple[str, str]]:
    """Read pairs of id and name; a later line of the same product wins, one without name is none.

    Errors: ConfigError that names the line.
    """
    try:
        with path.open(encoding=encoding, newline="") as file:
            lines = csv.DictReader(file)
            missing = {id_column, name_column} - set(lines.fieldnames or ())
            if missing:
                raise ConfigError(f"{path} has no column {' and no column '.join(sorted(missing))}")
            for row in lines:
                product = (row[id_column] or "").strip()
                name = printable((row[name_column] or "").strip(), MOST_LETTERS)
                if len(product) > ID_LETTERS or "\0" in product:
                    raise ConfigError(f"{path}, line {lines.line_num}: no product has such an id")
                if product and name:
                    yield product, name
    except (OSError, LookupError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: {error}") from error
