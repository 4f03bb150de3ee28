"""Compose itself, which needs no Docker engine for it, reads in the file what the tests do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from typing import Any

import pytest

from flows.runtime.paths import ROOT
from tests.support.compose_file import services, written

TOOLS = ROOT / ".shopstream" / "tools" / "bin"
PROFILES = ("load", "tools", "registry")


@cache
def compose() -> tuple[str, ...]:
    """The command of Compose 2 or newer, as a plugin of docker or alone."""
    path = f"{TOOLS}:{os.environ['PATH']}"
    for command in (("docker", "compose"), ("docker-compose",)):
        program = shutil.which(command[0], path=path)
        if program is None:
            continue
        version = subprocess.run(
            [program, *command[1:], "version", "--short"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        if version.returncode == 0 and re.match(r"v?([2-9]|\d\d)\.", version.stdout):
            return (program, *command[1:])
    pytest.skip("needs Compose 2 or newer, as `docker compose` or `docker-compose`: make tools")


def config(*options: str, **variables: str) -> dict[str, Any]:
    inherited = {
        k: v
        for k, v in os.environ.items()
        if not re.match(r"COMPOSE_|LOAD_|GRAFANA_|SHOPSTREAM_|.*_PORT$", k)
    }
    result = subprocess.run(
        [
            *compose(),
            "-f",
            str(ROOT / "docker-compose.yml"),
            *options,
            "config",
            "--format",
            "json",
        ],
        env=inherited | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == "", "a warning, for example of a variable without a value"
    loaded: dict[str, Any] = json.loads(result.stdout)
    return loaded


def everything() -> dict[str, Any]:
    return config(*(word for profile in PROFILES for word in ("--profile", profile)))


def test_it_is_read_without_a_warning() -> None:
    without_profile = config()["services"]
    assert without_profile.keys() == {
        name for name, service in services().items() if "profiles" not in service
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_stands_alone(profile: str) -> None:
    names = config("--profile", profile)["services"]
    assert names.keys() == {
        n for n, service in services().items() if service.get("profiles", [profile]) == [profile]
    }


def test_compose_reads_what_the_tests_read() -> None:
    project = everything()
    assert project["name"] == "shopstream"
    for name, service in services().items():
        read = project["services"][name]
        # its own output is a file again: there a dollar sign is written twice
        assert plain(read.get("environment", {})) == service.get("environment", {})
        for key in ("command", "entrypoint"):
            assert plain(read.get(key)) == service.get(key)
        assert plain(read.get("healthcheck", {}).get("test")) == service.get("healthcheck", {}).get(
            "test"
        )
        assert {
            f"{p['host_ip']}:{p['published']}:{p['target']}" for p in read.get("ports", [])
        } == set(service.get("ports", []))
        assert {secret["source"] for secret in read.get("secrets", [])} == set(
            service.get("secrets", [])
        )
        assert {k: v["condition"] for k, v in read.get("depends_on", {}).items()} == {
            k: v["condition"] for k, v in service.get("depends_on", {}).items()
        }
        for key in (
            "image",
            "read_only",
            "restart",
            "cap_drop",
            "security_opt",
            "tmpfs",
            "user",
            "init",
            "stop_signal",
        ):
            assert read.get(key) == service.get(key), f"{name}: {key}"
        assert int(read["mem_limit"]) >= 256 * 2**20
    assert project["secrets"].keys() == written()["secrets"].keys()


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value).replace("$$", "$"))


def test_a_port_can_be_moved_and_kafka_says_the_new_one() -> None:
    kafka = config(KAFKA_PORT="19999")["services"]["kafka"]
    assert kafka["ports"][0]["published"] == "19999"
    assert kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].endswith("HOST://127.0.0.1:19999")


def test_the_load_can_be_chosen() -> None:
    chosen = config("--profile", "load", LOAD_SCENARIO="flash_sale", LOAD_RATE="2000")["services"][
        "generator"
    ]
    assert {k: chosen["environment"][k] for k in ("LOAD_SCENARIO", "LOAD_RATE")} == {
        "LOAD_SCENARIO": "flash_sale",
        "LOAD_RATE": "2000",
    }
