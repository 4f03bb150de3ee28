"""docker-compose.yml keeps the specification, and every service keeps the rules of the house."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from flows.runtime.paths import ROOT
from tests.support.compose_file import (
    FILE,
    OURS,
    Service,
    jobs,
    mounts,
    ours,
    secrets_in,
    services,
    words,
    written,
)

SERVICES = services()
JOBS = jobs()
LASTING = {name: service for name, service in SERVICES.items() if name not in JOBS}
SPECIFICATION = json.loads(
    (files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text()
)
# what cannot run on a read-only root, and why is said in the file
WRITES_ITS_ROOT = {"kafka"}
every_service = pytest.mark.parametrize("name", SERVICES)
every_lasting_service = pytest.mark.parametrize("name", LASTING)


def errors_of(document: dict[str, Any]) -> list[str]:
    return [e.message for e in jsonschema.Draft202012Validator(SPECIFICATION).iter_errors(document)]


def test_the_file_keeps_the_specification() -> None:
    assert errors_of(written()) == []


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (("services", "kafka", "helthcheck"), {}),
        (("services", "kafka", "mem_limit"), ["1g"]),
        (("services", "clean", "depends_on"), {"topics": {"condition": "service_finished"}}),
        (("services", "grafana", "restart"), True),
        (("secret",), {}),
    ],
)
def test_the_specification_refuses_what_is_misspelt(at: tuple[str, ...], value: Any) -> None:
    document = written()
    place = document
    for key in at[:-1]:
        place = place[key]
    place[at[-1]] = value
    assert errors_of(document) != []


def test_it_names_no_version_of_the_format() -> None:
    assert "version" not in written()


def test_the_services_are_those_of_the_issue() -> None:
    by_profile: dict[tuple[str, ...], set[str]] = {}
    for name, service in SERVICES.items():
        by_profile.setdefault(tuple(service.get("profiles", ())), set()).add(name)
    assert by_profile.pop(("load",)) == {"generator"}
    assert by_profile.pop(("tools",)) == {"kafka-ui"}
    assert by_profile.pop(("registry",)) == {"registry"}
    flows = {"clean", "metrics", "deadletters", "quality"}
    assert by_profile.pop(()) == flows | {
        "kafka",
        "timescaledb",
        "topics",
        "migrate",
        "rollup",
        "prometheus",
        "node-exporter",
        "grafana",
    }
    assert by_profile == {}


@every_service
def test_its_image_is_pinned_to_a_release(name: str) -> None:
    image = SERVICES[name]["image"]
    if image == OURS:
        assert SERVICES[name]["pull_policy"] == "never", (
            "a stranger's image of this name must not be pulled"
        )
        return
    assert re.fullmatch(r"[\w.-]+/[\w./-]+:v?\d+\.\d+\.\d+(-pg17)?", image), image
    assert "build" not in SERVICES[name]


def test_our_image_is_built_once_for_all() -> None:
    assert [name for name, service in SERVICES.items() if "build" in service] == ["topics"]
    build = SERVICES["topics"]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()
    assert len(ours()) >= 8


@every_service
def test_it_has_limits_and_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["pids_limit"] > 0
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert re.fullmatch(r"\d+s", service["stop_grace_period"])
    assert service["restart"] == ("no" if name in JOBS else "unless-stopped")
    assert service.get("read_only", False) is (name not in WRITES_ITS_ROOT)


@every_lasting_service
def test_its_healthcheck_is_quick_at_start_and_bounded(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert len(check["test"]) > 1
    seconds = {
        key: int(check[key].removesuffix("s")) for key in check if key not in ("test", "retries")
    }
    assert seconds.keys() == {"interval", "timeout", "start_period", "start_interval"}
    assert seconds["start_interval"] < seconds["interval"]
    assert seconds["timeout"] <= seconds["interval"]
    assert seconds["start_period"] >= 60, "a first start pulls, formats and makes a database"
    assert check["retries"] >= 3


@every_service
def test_it_waits_for_what_it_needs_until_that_works(name: str) -> None:
    for dependency, how in SERVICES[name].get("depends_on", {}).items():
        finishes = dependency in JOBS
        assert how["condition"] == (
            "service_completed_successfully" if finishes else "service_healthy"
        )
        optional = set(SERVICES[dependency].get("profiles", ())) - set(
            SERVICES[name].get("profiles", ())
        )
        assert how.get("required", True) is not bool(optional), (
            "a profile that is off must not keep it from starting"
        )


def test_up_with_wait_knows_each_job_as_one() -> None:
    """`up --wait` takes a job that ended for a failure unless a service waits for its success."""
    assert jobs() == {"topics", "migrate"}
    for job in JOBS:
        waiting = [
            name
            for name, service in LASTING.items()
            if service.get("depends_on", {}).get(job, {}).get("condition")
            == "service_completed_successfully"
            and "profiles" not in service
        ]
        assert waiting, f"nobody waits for {job}"
        assert "healthcheck" not in SERVICES[job]


@every_service
def test_its_ports_are_for_this_machine_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port


def test_no_port_is_taken_twice_and_each_can_be_moved() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    hosts = [port.split(":")[1] for port in published]
    assert len(set(hosts)) == len(hosts)
    variables = re.findall(r"127\.0\.0\.1:\$\{(\w+_PORT):-\d+\}:", FILE.read_text())
    assert len(set(variables)) == len(published)


@every_service
def test_what_it_mounts_is_there(name: str) -> None:
    volumes = written()["volumes"]
    for source, target, mode in mounts(SERVICES[name]):
        if source.startswith("."):
            assert (ROOT / source).is_dir(), (
                f"{source}: Docker would make an empty folder in its place"
            )
            assert mode == "ro"
        else:
            assert source in volumes
        assert target.startswith("/")


def test_every_named_volume_is_used() -> None:
    used = {
        source
        for service in SERVICES.values()
        for source, _, _ in mounts(service)
        if not source.startswith(".")
    }
    assert used == set(written()["volumes"])


@every_service
def test_a_small_file_system_in_memory_has_a_bound(name: str) -> None:
    for line in SERVICES[name].get("tmpfs", []):
        path, _, options = line.partition(":")
        assert path.startswith("/")
        assert re.search(r"(^|,)size=\d+m(,|$)", options), line
        assert re.search(r"(^|,)mode=\d{4}(,|$)", options), (
            f"{line}: the user of the container must be able to write"
        )


@every_service
def test_it_gets_the_secrets_that_it_reads_and_no_others(name: str) -> None:
    service: Service = SERVICES[name]
    read = secrets_in(words(service))
    for source, _, _ in mounts(service):
        if source.startswith("."):
            for file in (ROOT / source).rglob("*.y*ml"):
                read |= secrets_in(file.read_text())
    assert set(service.get("secrets", [])) == read


def test_every_secret_is_a_file_of_its_name_in_the_ignored_folder() -> None:
    secrets = written()["secrets"]
    assert secrets == {name: {"file": f".secrets/{name}"} for name in secrets}
    assert ".secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert set(secrets) == {
        name for service in SERVICES.values() for name in service.get("secrets", [])
    }


@every_service
def test_no_secret_stands_in_the_file(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|_KEY", variable):
            assert variable.endswith("_FILE"), variable
            assert value.startswith("/run/secrets/")
        assert not re.search(r"://[^/@]*:[^/@]+@", value), f"{variable} holds a password"
