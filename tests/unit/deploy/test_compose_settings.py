"""Every variable in docker-compose.yml is one that its image knows, and says what the code and the
other services need.

A misspelt variable of an image is ignored in silence: so each is looked up in a list, and ours in
the settings.
"""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from flows.domain.errors import ConfigError
from flows.registry import NAMES
from flows.runtime.paths import ROOT
from flows.runtime.settings import FIELDS, environment_name, load_settings
from tests.support.compose_file import environment, filled, mounts, ours, services, written

SERVICES = services()
FLOW_PORTS = {"clean": 9101, "metrics": 9102, "deadletters": 9103, "quality": 9104}
SETTINGS = {environment_name(field) for field in FIELDS}
# read by the generator's own command line
LOAD = {"LOAD_SCENARIO", "LOAD_RATE"}

# Kafka: KAFKA_ and the broker's setting in capitals, with _ for a dot (tests/integration holds them
# against the broker). Of these each is needed: the first variable that is given replaces the
# image's whole configuration.
KAFKA_NEEDS = {
    "KAFKA_NODE_ID",
    "KAFKA_PROCESS_ROLES",
    "KAFKA_CONTROLLER_QUORUM_VOTERS",
    "KAFKA_CONTROLLER_LISTENER_NAMES",
    "KAFKA_LISTENERS",
    "KAFKA_ADVERTISED_LISTENERS",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
    "KAFKA_INTER_BROKER_LISTENER_NAME",
    "KAFKA_LOG_DIRS",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR",
    "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR",
    "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS",
    "CLUSTER_ID",
}
KNOWN = {
    "kafka": KAFKA_NEEDS
    | {
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE",
        "KAFKA_DEFAULT_REPLICATION_FACTOR",
        "KAFKA_MIN_INSYNC_REPLICAS",
        "KAFKA_LOG_RETENTION_BYTES",
        "KAFKA_LOG_SEGMENT_BYTES",
        "KAFKA_HEAP_OPTS",
    },
    "timescaledb": {
        "POSTGRES_USER",
        "POSTGRES_DB",
        "POSTGRES_PASSWORD_FILE",
        "POSTGRES_INITDB_ARGS",
        "TIMESCALEDB_TELEMETRY",
    },
    "prometheus": set(),
    "node-exporter": set(),
    # GF_<section>_<key> of grafana.ini; two underscores before FILE, one would be a setting that
    # nobody knows
    "grafana": {
        "GF_SMTP_ENABLED",
        "GF_SMTP_HOST",
        "GF_SMTP_FROM_ADDRESS",
        "GF_SERVER_ROOT_URL",
        "GF_SECURITY_ADMIN_USER",
        "GF_SECURITY_ADMIN_PASSWORD__FILE",
        "GF_SECURITY_SECRET_KEY__FILE",
        "GF_AUTH_ANONYMOUS_ENABLED",
        "GF_USERS_ALLOW_SIGN_UP",
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH",
        "GF_DASHBOARDS_MIN_REFRESH_INTERVAL",
        "GF_PLUGINS_PREINSTALL_DISABLED",
        "GF_PLUGINS_PREINSTALL_AUTO_UPDATE",
        "GF_PLUGINS_PLUGIN_ADMIN_ENABLED",
        "GF_ANALYTICS_REPORTING_ENABLED",
        "GF_ANALYTICS_CHECK_FOR_UPDATES",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES",
        "GF_NEWS_NEWS_FEED_ENABLED",
    },
    "kafka-ui": {
        "KAFKA_CLUSTERS_0_NAME",
        "KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS",
        "KAFKA_CLUSTERS_0_READONLY",
        "JAVA_OPTS",
    },
    # KARAPACE_ and a field of its Config; the registry's own switch has the word twice
    "registry": {
        "KARAPACE_KARAPACE_REGISTRY",
        "KARAPACE_BOOTSTRAP_URI",
        "KARAPACE_HOST",
        "KARAPACE_PORT",
        "KARAPACE_ADVERTISED_HOSTNAME",
        "KARAPACE_TOPIC_NAME",
        "KARAPACE_REPLICATION_FACTOR",
        "KARAPACE_COMPATIBILITY",
        "KARAPACE_LOG_LEVEL",
    },
}


def asked_by_provisioning() -> set[str]:
    """The variables that the files of ./grafana ask Grafana for."""
    variables: set[str] = set()
    for file in (ROOT / "grafana" / "provisioning").rglob("*.y*ml"):
        text = re.sub(r"(?m)^\s*#.*$", "", file.read_text())
        variables |= set(re.findall(r"(?:\$__env|\$)\{([A-Z][A-Z0-9_]+)\}", text))
    return variables


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ours().keys()))
def test_an_image_knows_each_variable(name: str) -> None:
    known = KNOWN[name] | (asked_by_provisioning() if name == "grafana" else set())
    assert environment(name).keys() - known == set()


@pytest.mark.parametrize("name", sorted(ours()))
def test_each_variable_of_ours_is_a_setting(name: str) -> None:
    assert environment(name).keys() - SETTINGS - (LOAD if name == "generator" else set()) == set()


@pytest.mark.parametrize("name", sorted(ours()))
def test_our_services_start_with_these_values(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("secrets") / "password"
    secret.write_text("s3cret")
    for known in SETTINGS:
        monkeypatch.delenv(known, raising=False)
    for variable, value in environment(name).items():
        monkeypatch.setenv(variable, str(secret) if value.startswith("/run/secrets/") else value)
    settings = load_settings()
    if "KAFKA_BOOTSTRAP_SERVERS" in environment(name):
        assert settings.bootstrap == "kafka:19092"
    if "DATABASE_URL" in environment(name):
        assert settings.database_url.startswith("postgresql://")
        assert "s3cret" in settings.database_url


def test_a_misspelt_variable_of_ours_would_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSTREAM_TELEMETRY_PROT", "9101")
    with pytest.raises(ConfigError, match="SHOPSTREAM_TELEMETRY_PORT"):
        load_settings()


@pytest.mark.parametrize("flow", NAMES)
def test_a_flow_serves_its_telemetry_where_prometheus_looks(flow: str) -> None:
    port = int(environment(flow)["SHOPSTREAM_TELEMETRY_PORT"])
    assert port == FLOW_PORTS[flow]
    assert environment(flow)["SHOPSTREAM_TELEMETRY_HOST"] == "0.0.0.0"
    assert f"{flow}:{port}" in scraped()
    assert SERVICES[flow]["command"] == ["flows.runtime.launch", flow]


def scraped() -> list[str]:
    prometheus = SERVICES["prometheus"]
    (file,) = (
        word.partition("=")[2]
        for word in prometheus["command"]
        if word.startswith("--config.file=")
    )
    (source,) = (source for source, target, _ in mounts(prometheus) if target == "/etc/prometheus")
    config = written(ROOT / source / file.removeprefix("/etc/prometheus/"))
    return [
        target
        for job in config["scrape_configs"]
        for group in job.get("static_configs", [])
        for target in group["targets"]
    ]


def test_prometheus_looks_nowhere_else() -> None:
    hosts = {target.split(":")[0] for target in scraped()}
    assert hosts <= SERVICES.keys()


def test_kafka_is_told_all_that_it_needs() -> None:
    assert environment("kafka").keys() >= KAFKA_NEEDS


def test_kafkas_listeners_agree_with_each_other_and_with_the_clients() -> None:
    kafka = environment("kafka")
    listening = dict(re.findall(r"(\w+)://([^,]*)", kafka["KAFKA_LISTENERS"]))
    advertised = dict(re.findall(r"(\w+)://([^,]*)", kafka["KAFKA_ADVERTISED_LISTENERS"]))
    protocols = dict(
        pair.split(":") for pair in kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    )
    assert listening.keys() == protocols.keys()
    assert advertised.keys() == listening.keys() - {"CONTROLLER"}
    assert kafka["KAFKA_CONTROLLER_LISTENER_NAMES"] == "CONTROLLER"
    assert (
        kafka["KAFKA_CONTROLLER_QUORUM_VOTERS"]
        == f"{kafka['KAFKA_NODE_ID']}@{listening['CONTROLLER']}"
    )
    assert advertised["INTERNAL"] == "kafka:19092"
    assert listening["INTERNAL"] == ":19092"
    (port,) = SERVICES["kafka"]["ports"]
    host, outside, inside = port.split(":")
    assert (advertised["HOST"], listening["HOST"]) == (f"{host}:{outside}", f":{inside}")
    for name in ("kafka-ui", "registry"):
        assert advertised["INTERNAL"] in environment(name).values()


def test_kafka_says_outside_the_port_under_which_it_is_published() -> None:
    raw = written()["services"]["kafka"]
    (port,) = raw["ports"]
    variable = re.search(r"\$\{\w+:-\d+\}", port)
    assert variable
    assert raw["environment"]["KAFKA_ADVERTISED_LISTENERS"].endswith(
        f"HOST://127.0.0.1:{variable[0]}"
    )


def test_what_must_outlive_a_container_is_on_a_named_volume() -> None:
    places = {
        (source, target)
        for name, service in SERVICES.items()
        for source, target, _ in mounts(service)
        if not source.startswith(".") and name != "node-exporter"
    }
    assert places == {
        ("kafka-data", environment("kafka")["KAFKA_LOG_DIRS"]),
        ("timescaledb-data", "/var/lib/postgresql/data"),  # the -ha image has /home/postgres/pgdata
        ("prometheus-data", "/prometheus"),
        ("grafana-data", "/var/lib/grafana"),
    }
    assert "-ha" not in SERVICES["timescaledb"]["image"]
    assert "--storage.tsdb.path=/prometheus" in SERVICES["prometheus"]["command"]


def test_the_exporter_of_disks_only_looks_at_the_disks_that_fill() -> None:
    exporter = SERVICES["node-exporter"]
    assert {(source, mode) for source, _, mode in mounts(exporter)} == {
        ("kafka-data", "ro"),
        ("timescaledb-data", "ro"),
    }
    assert "ports" not in exporter


def test_java_can_run_what_it_unpacks() -> None:
    """With Docker's default, noexec on /tmp, the first zstd or snappy record stops the broker."""
    for name in ("kafka", "kafka-ui"):
        (tmp,) = (line for line in SERVICES[name]["tmpfs"] if line.startswith("/tmp:"))
        assert "exec" in tmp.split(":")[1].split(",")


def test_logins_are_made_by_migrate_for_those_who_use_them() -> None:
    command = SERVICES["migrate"]["command"]
    logins = dict(word.split("=", 1) for before, word in pairwise(command) if before == "--login")
    assert logins.keys() == {"shopstream_flows", "shopstream_grafana"}
    for flow in ("metrics", "deadletters", "quality", "rollup"):
        settings = environment(flow)
        assert (
            settings["DATABASE_URL"] == "postgresql://shopstream_flows@timescaledb:5432/shopstream"
        )
        assert logins["shopstream_flows"] == f"writer:{settings['DATABASE_PASSWORD_FILE']}"
    grafana = environment("grafana")
    assert grafana["GRAFANA_DB_USER"] == "shopstream_grafana"
    assert logins["shopstream_grafana"].startswith("reader:")
    assert (grafana["GRAFANA_DB_HOST"], grafana["GRAFANA_DB_NAME"]) == (
        "timescaledb:5432",
        "shopstream",
    )
    database = environment("timescaledb")
    owner = f"postgresql://{database['POSTGRES_USER']}@timescaledb:5432/{database['POSTGRES_DB']}"
    assert environment("migrate")["DATABASE_URL"] == owner
    assert environment("migrate")["DATABASE_PASSWORD_FILE"] == database["POSTGRES_PASSWORD_FILE"]


def test_grafana_is_told_all_that_its_provisioning_asks_for() -> None:
    grafana = environment("grafana")
    assert asked_by_provisioning() <= grafana.keys()
    assert {name for name in grafana if not name.startswith("GF_")} <= asked_by_provisioning()
    assert grafana["GRAFANA_PROMETHEUS_URL"] == "http://prometheus:9090"


def test_grafana_opens_on_a_board_that_is_there() -> None:
    path = environment("grafana")["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    (source,) = (
        source for source, target, _ in mounts(SERVICES["grafana"]) if path.startswith(f"{target}/")
    )
    assert (ROOT / source / path.removeprefix("/etc/grafana/provisioning/")).is_file()


def test_a_healthcheck_asks_where_the_service_listens() -> None:
    listening = {
        "kafka": 9092,
        "prometheus": 9090,
        "grafana": 3000,
        "kafka-ui": 8080,
        "registry": int(environment("registry")["KARAPACE_PORT"]),
    }
    for name, port in listening.items():
        ports = set(
            re.findall(r"127\.0\.0\.1[:/](\d+)", repr(SERVICES[name]["healthcheck"]["test"]))
        )
        assert ports == {str(port)}
        assert SERVICES[name]["ports"][0].endswith(f":{port}")


def test_a_variable_that_the_shell_of_the_container_reads_is_not_filled_in_here() -> None:
    """Compose fills in $NAME: what the container's own shell must read is written $$NAME."""
    raw = written()["services"]
    assert "$$POSTGRES_USER" in repr(raw["timescaledb"]["healthcheck"])
    assert "$$LOAD_RATE" in repr(raw["generator"]["command"])
    assert filled("$$LOAD_RATE ${LOAD_RATE:-100}") == "$LOAD_RATE 100"
