"""Other people's clients: kcat, Java's, and Apache's Avro library."""

from __future__ import annotations

import importlib
import io
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.native import kafka, packages
from deploy.native.checkout import cache_folder
from deploy.native.errors import ServicesError
from deploy.native.processes import run
from flows.connectors.avro.contracts import FOLDER
from shopstream.drills.records import Raw, contract
from shopstream.drills.stage import expect

AVRO = "avro==1.12.1"
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Clients:
    """Where records go, and a folder for files on their way there."""

    bootstrap: str
    topic: str
    folder: Path

    @property
    def _log(self) -> Path:
        return self.folder / "install.log"

    def kcat(self, records: Sequence[Raw], codec: str) -> None:
        """Send with kcat: one record per file, in a call per key.

        Errors: ServicesError where kcat cannot be had.
        """
        root = packages.unpacked("kcat", self._log)
        by_key: dict[bytes | None, list[bytes]] = {}
        for key, value in records:
            by_key.setdefault(key, []).append(value or b"")
        for key, values in by_key.items():
            files = [self.folder / f"record-{number}" for number in range(len(values))]
            for file, value in zip(files, values, strict=True):
                file.write_bytes(value)
            words = [str(root / "usr" / "bin" / "kcat"), "-P", "-b", self.bootstrap]
            words += ["-t", self.topic, "-z", codec, "-X", "topic.partitioner=murmur2_random"]
            words += [] if key is None else ["-k", key.decode()]
            environment = {**os.environ, "LD_LIBRARY_PATH": packages.libraries(root)}
            self._run([*words, *map(str, files)], environment)

    def java(self, records: Sequence[Raw], codec: str) -> None:
        """Send with Java's client, by a program that Java compiles as it runs it.

        Errors: ServicesError where there is only a runtime.
        """
        file = self.folder / "records"
        with file.open("wb") as out:
            for record in records:
                for part in record:
                    out.write(struct.pack(">i", -1 if part is None else len(part)) + (part or b""))
        java, jars = kafka.programs(self._log)
        modules = subprocess.run([java, "--list-modules"], capture_output=True, text=True).stdout
        if "jdk.compiler" not in modules:
            raise ServicesError("this Java compiles nothing: it is a runtime only")
        source = Path(__file__).with_name("Sender.java")
        words = [java, "-Xmx128m", kafka.LOGGING, "-cp", f"{jars}/*", str(source)]
        self._run([*words, self.bootstrap, self.topic, codec, str(file)])

    def console(self, lines: Sequence[str], codec: str) -> None:
        """Send lines of `key:value` with Java's console producer."""
        java, jars = kafka.programs(self._log)
        tool = "org.apache.kafka.tools.ConsoleProducer"
        words = [java, "-Xmx128m", kafka.LOGGING, "-cp", f"{jars}/*", tool]
        words += ["--bootstrap-server", self.bootstrap, "--topic", self.topic]
        words += ["--compression-codec", codec, "--property", "parse.key=true"]
        self._run([*words, "--property", "key.separator=:"], text="\n".join(lines) + "\n")

    def _run(
        self, words: list[str], environment: dict[str, str] | None = None, text: str = ""
    ) -> None:
        ended = subprocess.run(
            words,
            input=text,
            capture_output=True,
            text=True,
            env=environment,
            timeout=TIMEOUT_SECONDS,
        )
        expect(
            ended.returncode == 0, f"{Path(words[0]).name}: {(ended.stderr or ended.stdout)[-500:]}"
        )


def apache_avro(events: Sequence[dict[str, Any]], log: Path) -> list[bytes]:
    """Encode events with Apache's library for Python, which is no dependency of ours.

    Errors: ServicesError where it cannot be had.
    """
    folder = cache_folder() / AVRO.replace("==", "-")
    if not folder.is_dir():
        partial = folder.with_suffix(".partial")
        words = [sys.executable, "-m", "pip", "install", "-q", "--target", str(partial), AVRO]
        run(words, f"pip cannot install {AVRO}.", log)
        partial.rename(folder)
    sys.path.append(str(folder))
    try:
        schema = importlib.import_module("avro.schema").parse(
            (FOLDER / "web_event.avsc").read_text()
        )
        library = importlib.import_module("avro.io")
    finally:
        sys.path.remove(str(folder))
    header, _ = contract("web_event")
    values = []
    for event in events:
        out = io.BytesIO()
        library.DatumWriter(schema).write(event, library.BinaryEncoder(out))
        values.append(header + out.getvalue())
    return values
