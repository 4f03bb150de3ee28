"""Flink SQL in one JVM of its own: build the job of `flink/` by Maven, run it, and measure it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench.drain import SAMPLE_SECONDS, DrainResult
from bench.errors import BenchError
from bench.peers.compare import SCHEMA, create_tables
from bench.resources import Meter, peak_mib, usage_between
from bench.sandbox import Sandbox
from flows.runtime.paths import WORK
from shopstream.demo.dev_services import Services
from shopstream.kafka.lag import Lags

NAME = "flink"
SOURCES = Path(__file__).parent / "flink"
BUILD = WORK / "peers" / "flink"
PATIENCE_SECONDS = 600.0
# Java 17 opens what Flink's serializers look into only by name, as Flink's own start script does.
OPENED = ("java.lang", "java.net", "java.nio", "java.text", "java.time", "java.util")
JVM = (
    "-Xms3g",
    "-Xmx3g",
    "-XX:+UseParallelGC",
    "-Duser.timezone=UTC",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED),
)


def build() -> None:
    """Compile the job and fetch its libraries; what is there is kept.

    Errors: BenchError where there is no Maven, or when it fails.
    """
    maven = shutil.which("mvn")
    if maven is None or shutil.which("java") is None:
        raise BenchError("the peers need Java 17 and Maven: install default-jdk-headless and maven")
    BUILD.mkdir(parents=True, exist_ok=True)
    ran = subprocess.run(
        [maven, "-q", "-B", "-f", str(SOURCES / "pom.xml"), f"-Dbuild={BUILD}", "package"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if ran.returncode:
        raise BenchError(f"Maven cannot build the Flink job:\n{ran.stdout[-2000:]}")


def drain(services: Services, sandbox: Sandbox, events: int) -> DrainResult:
    """Let Flink take the raw topic into tables of its sandbox, and measure it as the flows are.

    The first commit is that of its first checkpoint; the last moment is the end of the job, when
    all rows are committed.
    Errors: BenchError when the job fails or takes too long.
    """
    log = sandbox.logs / "flink.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    create_tables(sandbox)
    with (
        Lags(sandbox.settings) as lags,
        Meter(services, sandbox.name) as meter,
        _running(sandbox, log) as process,
    ):
        began, first = time.monotonic(), None
        while "drained" not in log.read_text().split():
            if process.poll() is not None or time.monotonic() - began > PATIENCE_SECONDS:
                raise BenchError(f"Flink did not drain: see {log}\n{log.read_text()[-1500:]}")
            if first is None:
                lag = lags.of("clean")
                if lag.records < lag.total:
                    first = meter.sample({NAME: process.pid}), lag.records / lag.total
            time.sleep(SAMPLE_SECONDS)
        last = meter.sample({NAME: process.pid})
        if first is None or first[1] == 0:
            raise BenchError(
                f"Flink drained {events} events before its first checkpoint: take more"
            )
        sample, left_ratio = first
        return DrainResult(
            events=events,
            work_events=events * left_ratio,
            work_seconds=last.at - sample.at,
            start_seconds=last.at - began,
            usage=usage_between(sample, last),
            rss_mib={NAME: peak_mib(process.pid)},
        )


@contextmanager
def _running(sandbox: Sandbox, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    url = urlsplit(sandbox.settings.database_url)
    checkpoints = (sandbox.logs / "checkpoints").resolve()
    environment = {
        "PEER_TOPIC": sandbox.settings.topic("topic_raw_web"),
        "PEER_BOOTSTRAP": sandbox.environment["KAFKA_BOOTSTRAP_SERVERS"],
        "PEER_GROUP": sandbox.settings.group("clean"),
        "PEER_CHECKPOINTS": str(checkpoints),
        "PEER_JDBC_URL": f"jdbc:postgresql://{url.hostname}:{url.port}{url.path}"
        f"?currentSchema={SCHEMA}&reWriteBatchedInserts=true",
        "PEER_USER": url.username or "",
        "PEER_PASSWORD": url.password or "",
    }
    path = f"{BUILD / 'flink-peer.jar'}:{BUILD / 'libraries'}/*"
    command = ["java", *JVM, "-cp", path, "peer.Job", str(SOURCES / "job.sql")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(checkpoints, ignore_errors=True)
