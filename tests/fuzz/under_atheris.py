"""`python -m tests.fuzz.under_atheris SECONDS`: the decoder against a plain reader.

Bytes that reach new branches are kept and changed further. The branches are those of the plain
reader and of what names a fault; the fast decoder is native code, which has none to show.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

HOW_TO = "python -m pip install --require-hashes -r tests/fuzz/requirements.txt"
INSTRUMENTED = ["flows.connectors.avro", "tests.support.plain_oracle"]
MAX_BYTES = 40_000


def main() -> None:
    """Fuzz for so many seconds; libFuzzer ends the process itself, with 77 for a finding.

    Errors: SystemExit without atheris.
    """
    try:
        import atheris  # type: ignore[import-untyped]
    except ImportError:
        raise SystemExit(f"atheris is not installed: {HOW_TO}") from None
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        raise SystemExit("usage: python -m tests.fuzz.under_atheris SECONDS")
    with atheris.instrument_imports(include=INSTRUMENTED):
        from flows.connectors.avro import schemas
        from flows.connectors.avro.decode import Decoder
        from tests.support import plain_oracle as oracle
    from flows.domain.web import WEB
    from tests.fuzz.mutations import FIELDS, good_event, written
    from tests.fuzz.road import batch_of

    decoder = Decoder(WEB, schemas.ConfluentIds(None), MAX_BYTES)
    plain = oracle.read.__wrapped__

    def one(value: bytes) -> None:
        decoded = decoder.decode(batch_of([oracle.Stored(0, 0, 0, value)]))
        try:
            expected = plain(value, MAX_BYTES)["event_id"]
        except oracle.Unreadable as error:
            expected = str(error)
        actual = [code for _, code, _ in decoded.refused] or decoded.events["event_id"].to_list()
        assert [expected.replace("\0", "")] == [str(a).replace("\0", "") for a in actual], (
            f"{actual}, not {expected}: {value!r}"
        )

    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(200):
            e = good_event(chance, number, 1_700_000_000_000)
            if number % 2:
                chance.choice(FIELDS)(chance, e)
            (Path(folder) / str(number)).write_bytes(written(chance, e))
        atheris.Setup([sys.argv[0], f"-max_total_time={sys.argv[1]}", "-max_len=4096", folder], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
