"""Ask running flows for their health and numbers."""

from __future__ import annotations

import urllib.request
from collections import Counter
from dataclasses import dataclass
from urllib.error import HTTPError, URLError

from prometheus_client.parser import text_string_to_metric_families

from tests.support.ports import free_port

Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Served:
    """Where one flow serves."""

    port: int

    @property
    def settings(self) -> dict[str, str]:
        return {"SHOPSTREAM_TELEMETRY_PORT": str(self.port)}

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; status 0 while nobody serves."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}{path}", timeout=10
            ) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except (URLError, ConnectionError):
            return 0, ""

    @property
    def healthy(self) -> bool:
        return self.get("/healthz")[0] == 200

    @property
    def stalled(self) -> bool:
        status, line = self.get("/healthz")
        return status == 503 and line.startswith("no progress")

    def samples(self) -> dict[Series, float]:
        status, text = self.get("/metrics")
        assert status == 200
        return {
            (s.name, tuple(sorted(s.labels.items()))): s.value
            for family in text_string_to_metric_families(text)
            for s in family.samples
        }

    def families(self) -> set[str]:
        """Names of the families that have at least one series."""
        return {
            f.name for f in text_string_to_metric_families(self.get("/metrics")[1]) if f.samples
        }

    def by(self, name: str, label: str) -> Counter[str]:
        """Add up the series of a name by one label."""
        sums: Counter[str] = Counter()
        for (series, labels), value in self.samples().items():
            if series == name:
                sums[dict(labels)[label]] += int(value)
        return sums

    def total(self, name: str) -> float:
        return sum(value for (series, _), value in self.samples().items() if series == name)


def served() -> Served:
    return Served(free_port())
