"""Where the event contracts lie, and of which families they are.

Apart from the schemas themselves: settings are read by commands that decode nothing, and to import
the decoders would double the time that these take to start.
"""

from __future__ import annotations

from pathlib import Path

_FLOWS = Path(__file__).resolve().parents[2]
# beside flows/ in a checkout, below it in a wheel (pyproject.toml)
FOLDER = next(p for p in (_FLOWS.parent / "avro", _FLOWS / "avro") if p.is_dir())


def family_names() -> list[str]:
    """Name the families that have a contract, `avro/<name>_event.avsc`."""
    names = (path.stem.removesuffix("_event") for path in FOLDER.glob("*_event.avsc"))
    return sorted(name for name in names if not name.startswith("clean_"))
