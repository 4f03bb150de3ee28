"""Prometheus and promtool: the system's, or those that `make services` has fetched."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port

START_SECONDS = 60.0


def promtool(programs: Path, *arguments: str, stdin: str = "", cwd: Path | None = None) -> str:
    """Run promtool, which must succeed; gives all that it writes."""
    result = subprocess.run(
        [programs / "promtool", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def load(programs: Path, folder: Path, samples: str) -> None:
    """Make a database below the folder of samples in the OpenMetrics format."""
    (folder / "samples.txt").write_text(samples)
    promtool(
        programs,
        *("tsdb", "create-blocks-from", "openmetrics", "-q"),
        *(str(folder / "samples.txt"), str(folder / "data")),
    )


@contextmanager
def serving(programs: Path, folder: Path, configuration: str = "global: {}\n") -> Iterator[str]:
    """Run Prometheus over the database below the folder; gives its URL."""
    (folder / "prometheus.yml").write_text(configuration)
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(programs / "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        # samples may end a day ago, whatever the default keeps
        "--storage.tsdb.retention.time=10y",
        "--log.level=warn",
    ]
    with (
        (folder / "prometheus.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            until = time.monotonic() + START_SECONDS
            while not is_ready(url):
                text = (folder / "prometheus.log").read_text()
                assert process.poll() is None, text
                assert time.monotonic() < until, text
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def is_ready(url: str) -> bool:
    """Ask whether a Prometheus has read its database."""
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
