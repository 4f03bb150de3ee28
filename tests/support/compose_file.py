"""docker-compose.yml as Compose reads it: anchors merged, variables with their defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flows.runtime.paths import ROOT

FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}|(?P<wrong>\$)")
OURS = "shopstream:local"
Service = dict[str, Any]


def written(path: Path = FILE) -> dict[str, Any]:
    """Read the file as it is written, with anchors merged."""
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text())
    return loaded


def filled(value: Any) -> Any:
    """Replace variables by their defaults, and $$ by a dollar sign."""
    if isinstance(value, str):
        return VARIABLE.sub(default_of, value)
    if isinstance(value, dict):
        return {key: filled(item) for key, item in value.items()}
    return [filled(item) for item in value] if isinstance(value, list) else value


def default_of(variable: re.Match[str]) -> str:
    assert not variable["wrong"], (
        f"a lone $ in {variable.string!r}: write ${{NAME:-default}}, or $$"
    )
    if variable[0] == "$$":
        return "$"
    assert variable["default"] is not None, (
        f"{variable[0]}: a variable needs a default, `up` must work without any"
    )
    return variable["default"]


def services() -> dict[str, Service]:
    by_name: dict[str, Service] = filled(written()["services"])
    return by_name


def ours() -> dict[str, Service]:
    """Give the services that run our image."""
    return {name: s for name, s in services().items() if s["image"] == OURS}


def jobs() -> set[str]:
    """Name the services that end: somebody waits for their success."""
    return {
        dependency
        for service in services().values()
        for dependency, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }


def environment(name: str) -> dict[str, str]:
    variables: dict[str, str] = services()[name].get("environment", {})
    return variables


def words(service: Service) -> str:
    """Everything in a service that can name a path: environment, command, healthcheck."""
    return repr(
        [service.get(key) for key in ("environment", "command", "entrypoint", "healthcheck")]
    )


def secrets_in(text: str) -> set[str]:
    return set(re.findall(r"/run/secrets/([\w.-]+)", text))


def mounts(service: Service) -> list[tuple[str, str, str]]:
    """(source, target, mode) of each volume."""
    return [(*volume.split(":"), "rw")[:3] for volume in service.get("volumes", [])]
