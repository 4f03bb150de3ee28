"""`.env.example`: every variable that Compose or a process of ours reads, with its default."""

from __future__ import annotations

import re

from flows.runtime.paths import ROOT
from flows.runtime.settings import FIELDS, environment_name

HEAD = """\
# Written by `make render`. Copy it to .env and take away the # of what you change.
#
# Docker Compose reads .env by itself. For a shell: set -a; . ./.env; set +a
# There the variables of Compose alone that begin with SHOPSTREAM_ must stay out: a command of ours
# refuses what is no setting of its own.
# No password belongs in it: `make secrets` writes them to files of their own.
"""
# variable of docker-compose.yml -> what it sets; those that are settings too stand with the others
COMPOSE = {
    "KAFKA_PORT": "Port of Kafka on 127.0.0.1.",
    "DATABASE_PORT": "Port of TimescaleDB on 127.0.0.1.",
    "PROMETHEUS_PORT": "Port of Prometheus on 127.0.0.1.",
    "GRAFANA_PORT": "Port of Grafana on 127.0.0.1.",
    "GRAFANA_ROOT_URL": "Where people reach Grafana, for the links in messages.",
    "KAFKA_UI_PORT": "Port of the view into Kafka (profile tools) on 127.0.0.1.",
    "REGISTRY_PORT": "Port of the schema registry (profile registry) on 127.0.0.1.",
    "LOAD_RATE": "Events per second that the profile load sends.",
    "LOAD_SCENARIO": "Scenario that the profile load sends: shopstream-generate scenarios.",
    "GRAFANA_ANONYMOUS": "true: boards without a login, and any query to their data sources.",
    "GRAFANA_SMTP_ENABLED": "true: Grafana sends mail.",
    "GRAFANA_SMTP_HOST": "Mail server that takes mail without a password.",
    "GRAFANA_SMTP_FROM": "Sender of that mail.",
    "SHOPSTREAM_RUNBOOK_URL": "The runbook that messages link to, if not the board; of Compose.",
    "SHOPSTREAM_ALERT_WEBHOOK_URL": "URL that alerts are posted to; of Compose alone.",
    "SHOPSTREAM_ALERT_EMAIL": "Address that alerts are mailed to; of Compose alone.",
}


def compose_defaults() -> dict[str, str]:
    """Read every variable that docker-compose.yml fills in, with its default."""
    text = (ROOT / "docker-compose.yml").read_text()
    return dict(re.findall(r"(?<!\$)\$\{(\w+):-([^}]*)\}", text))


def environment_example() -> str:
    """Write the text of the file."""
    defaults = compose_defaults()
    ours = {
        environment_name(name): (field.description, field.default) for name, field in FIELDS.items()
    }
    compose = [_entry(name, text, defaults[name]) for name, text in COMPOSE.items()]
    settings = [
        _entry(name, text or "", "" if default is None else default)
        for name, (text, default) in ours.items()
    ]
    passed = "".join(f"#   {name}\n" for name in ours if name in defaults)
    heading = f"# Flows and commands. Of these Compose passes on:\n{passed}"
    return "\n".join((HEAD, "# Docker Compose\n", *compose, heading, *settings))


def _entry(name: str, text: str, default: object) -> str:
    return f"# {text}\n#{name}={default}\n"
