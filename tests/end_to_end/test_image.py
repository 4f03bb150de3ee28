"""The image and what docker-compose.yml runs in it, on real services, without a Docker engine."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from psycopg import sql

from flows.registry import NAMES
from flows.runtime.paths import ROOT
from tests.support.compose_file import Service, jobs, ours, services
from tests.support.container import Container, build, needed
from tests.support.stack import Stack, wait_until
from tests.support.traffic import mixed

pytestmark = pytest.mark.services
LOGINS = ("flows", "grafana")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Container:
    needed()
    return build(tmp_path_factory.mktemp("image"))


@dataclass
class Project:
    """The services of compose, on the topics and the database of one test."""

    image: Container
    stack: Stack
    secrets: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    ports: dict[str, str] = field(default_factory=dict)

    def changes(self, name: str) -> dict[str, str]:
        """Where the services of the test are, instead of where compose has them."""
        changes = {
            k: v
            for k, v in self.stack.environment.items()
            if k.startswith(("KAFKA_", "SHOPSTREAM_TOPIC", "SHOPSTREAM_GROUP"))
        }
        environment = services()[name]["environment"]
        if "DATABASE_URL" in environment:
            parts = urlsplit(self.stack.database_url)
            user = urlsplit(environment["DATABASE_URL"]).username or ""
            login = (
                self.own(user) if user in map("shopstream_{}".format, LOGINS) else parts.username
            )
            changes["DATABASE_URL"] = parts._replace(
                netloc=f"{login}@{parts.netloc.rpartition('@')[2]}"
            ).geturl()
        if "SHOPSTREAM_TELEMETRY_PORT" in environment:
            changes["SHOPSTREAM_TELEMETRY_PORT"] = self.ports.setdefault(name, free_port())
        return changes

    def own(self, login: str) -> str:
        """A login of this test: roles are the whole server's."""
        return login.replace("shopstream", self.stack.prefix)

    def start(self, name: str, **changes: str) -> subprocess.Popen[str]:
        service: Service = dict(services()[name])
        service["command"] = [
            re.sub(r"\bshopstream_(?=flows=|grafana=)", f"{self.stack.prefix}_", w)
            for w in service["command"]
        ]
        command, environment = self.image.service(
            service, self.secrets, self.changes(name) | changes
        )
        with (self.stack.folder / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                text=True,
            )
        self.processes.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.stack.folder / f"{name}.log").read_text()

    def has_a_log(self, name: str) -> bool:
        return bool(self.log(name))

    def healthy(self, name: str) -> bool:
        """What the healthcheck says, asked as another process of the container."""
        service = services()[name]
        check = {**service, "entrypoint": [], "command": service["healthcheck"]["test"][1:]}
        command, environment = self.image.service(check, self.secrets, self.changes(name))
        return (
            subprocess.run(command, env=environment, capture_output=True, timeout=60).returncode
            == 0
        )

    def wait_healthy(self, name: str, process: subprocess.Popen[str]) -> None:
        """Wait: a healthcheck starts a Python, and the machine can be busy with other tests."""

        def ready() -> bool:
            assert process.poll() is None, self.log(name)
            return self.healthy(name)

        wait_until(f"{name} to be healthy", ready, 120)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        for login in LOGINS:
            wait_until("the login to be dropped", partial(self.dropped, login))

    def dropped(self, login: str) -> bool:
        name = f"{self.stack.prefix}_{login}"
        try:
            self.stack.execute(
                sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)).as_string(None)
            )
        except psycopg.errors.DependentObjectsStillExist:
            return False
        return True


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


@pytest.fixture
def project(image: Container, stack: Stack, tmp_path: Path) -> Iterator[Project]:
    secrets = tmp_path / "secrets"
    subprocess.run(
        ["sh", str(ROOT / "deploy" / "secrets.sh")],
        env=os.environ | {"SECRETS_FOLDER": str(secrets)},
        check=True,
    )
    # the owner is there already, with a password of its own
    (secrets / "database_owner_password").write_text(
        unquote(urlsplit(stack.database_url).password or "")
    )
    opened = Project(image, stack, secrets)
    yield opened
    opened.close()


def inside(image: Container, script: str) -> subprocess.CompletedProcess[str]:
    service = {"entrypoint": ["python", "-c"], "command": [script]}
    command, environment = image.service(service, Path("/nonexistent"), {})
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_the_image_holds_the_program_and_nothing_else(image: Container) -> None:
    app = image.inside("/app")
    assert {path.name for path in app.iterdir()} == {
        "avro",
        "database",
        "generators",
        "flows",
        "shopstream",
        "pyproject.toml",
    }
    assert not [p for p in app.rglob("*") if p.name.startswith(".") or p.suffix == ".log"]
    assert not (image.inside("/opt/venv/bin/pytest")).exists()
    assert list((app / "flows" / "__pycache__").glob("clean.*.pyc")), (
        "compiled while it could be written"
    )


def test_it_runs_as_a_user_that_can_change_nothing_but_tmp(image: Container) -> None:
    result = inside(
        image,
        "import os, pathlib\nfor place in ('/app', '/app/flows', '/opt/venv', '/', '/etc', '/usr',"
        " '/run'):\n    try: (pathlib.Path(place) / 'x').touch(); print(place)\n    except OSError:"
        " pass\npathlib.Path('/tmp/x').touch()\nstatus = dict(line.split(':', 1) for line in"
        " open('/proc/self/status'))\nprint(os.getuid(), os.getgid(), os.getgroups(),"
        " int(status['CapEff'], 16), int(status['CapBnd'], 16), int(status['NoNewPrivs']))",
    )
    assert result.stdout.split("\n")[0] == "10001 10001 [] 0 0 1", result.stdout + result.stderr


def test_every_module_can_be_imported_there(image: Container) -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for folder in ("flows", "database", "generators", "shopstream")
        for path in sorted((ROOT / folder).rglob("*.py"))
        # drills start services of their own, for which they need a checkout
        if path.name not in ("__main__.py", "drill.py") and path.parent.name != "drills"
    ]
    result = inside(
        image,
        f"import importlib, sys; sys.path.insert(0, '/app')\nfor n in {names}:"
        " importlib.import_module(n)",
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_the_project_starts_moves_and_stops_as_compose_would_have_it(project: Project) -> None:
    stack = project.stack
    for job in sorted(jobs(), reverse=True):  # topics, migrate
        for _ in range(2):  # each `up` runs them again
            assert project.start(job).wait(60) == 0, project.log(job)
    assert project.log("topics").count("all topics are there") >= 1
    assert f"login {stack.prefix}_grafana is a member of shopstream_reader" in project.log(
        "migrate"
    )

    flows = {name: project.start(name) for name in NAMES}
    for name, process in flows.items():
        project.wait_healthy(name, process)
    generator = project.start("generator", LOAD_RATE="50", LOAD_SCENARIO="faults")
    project.wait_healthy("generator", generator)
    generator.send_signal(services_signal("generator"))
    assert generator.wait(20) == 130
    stack.produce(mixed(300, seed=5))
    stack.drain(seconds=120)

    for process in flows.values():
        process.send_signal(services_signal("clean"))
    assert {name: process.wait(60) for name, process in flows.items()} == dict.fromkeys(flows, 0)
    assert all(stack.is_drained(name) for name in flows), "all that was read is committed"
    assert not any(project.healthy(name) for name in flows)
    stack.verify()

    reader = urlsplit(stack.database_url)._replace(
        netloc=f"{stack.prefix}_grafana@" + stack.database_url.rpartition("@")[2].split("/")[0]
    )
    with psycopg.connect(
        reader.geturl(), password=(project.secrets / "grafana_db_password").read_text()
    ) as db:
        (events,) = db.execute("SELECT sum(events) FROM gold.traffic_1m").fetchone() or (0,)
    assert events == stack.query("SELECT sum(events) FROM gold.traffic_1m")[0][0] > 0


def services_signal(name: str) -> signal.Signals:
    """The signal that Docker stops a service with."""
    return signal.Signals[services()[name].get("stop_signal", "SIGTERM")]


def test_the_rollup_is_healthy_once_it_was_done_and_stops_at_once(project: Project) -> None:
    assert project.start("migrate").wait(60) == 0, project.log("migrate")
    process = project.start("rollup")
    project.wait_healthy("rollup", process)
    process.send_signal(services_signal("rollup"))
    assert process.wait(30) == 0, project.log("rollup")
    project.stack.execute("UPDATE ops.jobs SET finished_at = finished_at - interval '20 minutes'")
    assert not project.healthy("rollup")


def test_a_flow_that_is_asked_to_stop_while_it_starts_does(project: Project) -> None:
    """Docker's init passes the signal on; Python without a handler ends, with one it drains."""
    assert project.start("migrate").wait(60) == 0
    for name in NAMES:
        process = project.start(name)
        wait_until(f"{name} to write a log", partial(project.has_a_log, name))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM), project.log(name)


def test_a_secret_that_is_not_there_is_named(project: Project) -> None:
    process = project.start("metrics", DATABASE_PASSWORD_FILE="/run/secrets/misspelt")
    assert process.wait(30) == 2
    (line,) = project.log("metrics").splitlines()
    assert line.startswith("DATABASE_PASSWORD_FILE='/run/secrets/misspelt': cannot be read")


def test_a_secret_that_only_its_owner_can_read_cannot_be_read_in_the_container(
    project: Project,
) -> None:
    """Why `make secrets` gives 0644 in a folder of 0700, not 0600."""
    (project.secrets / "database_flows_password").chmod(0o600)
    process = project.start("metrics")
    assert process.wait(30) == 2
    assert "Permission denied" in project.log("metrics")


def test_every_service_of_ours_is_run_here() -> None:
    tried = {*jobs(), *NAMES, "rollup", "generator"}
    assert ours().keys() == tried
