"""Run the services of this checkout: the command behind `make services` and its kin.

Progress goes to stderr; stdout carries the export lines only, so that `eval "$(make -s services)"`
works.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable

from deploy.native import kafka, postgres, prometheus
from deploy.native.checkout import Checkout, Identity, write_private
from deploy.native.errors import ServicesError
from deploy.native.processes import locked


def start(checkout: Checkout) -> None:
    """Start what does not answer, and print the exports once both answer."""
    checkout.prepare()
    with locked(checkout.folder / "lock"):
        identity = checkout.choose_identity()
        broker, database = kafka.Kafka(checkout), postgres.Postgres(checkout)
        kafka_up = broker.server.pid() is not None and _answers(kafka.answers, identity)
        postgres_up = database.server.pid() is not None and _answers(postgres.answers, identity)
        if not (kafka_up and postgres_up):
            # Both are made ready before one is started: where one cannot be had, nothing is left
            # running.
            broker.install()
            home = database.install()
            if not kafka_up:
                broker.stop()
                identity = checkout.with_free_ports(identity, "kafka_port", "controller_port")
                broker.start(identity)
            if not postgres_up:
                database.stop()
                identity = checkout.with_free_ports(identity, "postgres_port")
                database.start(home, identity)
        _fetch_prometheus(checkout)
        exports = checkout.exports(identity)
        write_private(checkout.exports_file, exports)
    print(exports, end="")


def _fetch_prometheus(checkout: Checkout) -> None:
    # only tests and `make prometheus` need it: without it the services are up all the same
    try:
        prometheus.install(checkout.folder / "install.log")
    except ServicesError as error:
        print(f"services: without Prometheus: {error}", file=sys.stderr)


def watch(checkout: Checkout) -> None:
    """Run Prometheus over the flows of this checkout, until Ctrl-C."""
    prometheus.run_beside(checkout.folder.parent)


def stop(checkout: Checkout) -> None:
    """End both; their data is kept."""
    if not checkout.folder.exists():
        return
    with locked(checkout.folder / "lock"):
        checkout.exports_file.unlink(missing_ok=True)
        for name, was_running in (
            ("Kafka", kafka.Kafka(checkout).stop()),
            ("PostgreSQL", postgres.Postgres(checkout).stop()),
        ):
            if was_running:
                print(f"services: {name} stopped", file=sys.stderr)


def clean(checkout: Checkout) -> None:
    """End both and remove their data, ports and passwords; downloads stay in the cache folder."""
    stop(checkout)
    kafka.Kafka(checkout).clean()
    postgres.Postgres(checkout).clean()
    shutil.rmtree(checkout.folder, ignore_errors=True)


def status(checkout: Checkout) -> None:
    """Print one line per service.

    Errors: ServicesError where one does not answer.
    """
    identity = checkout.identity()
    if identity is None:
        raise ServicesError("none yet: `make services` starts them.")
    up = True
    for server, port, probe in (
        (kafka.Kafka(checkout).server, identity.kafka_port, kafka.answers),
        (postgres.Postgres(checkout).server, identity.postgres_port, postgres.answers),
    ):
        pid, responds = server.pid(), _answers(probe, identity)
        up = up and pid is not None and responds
        state = (
            "does not run"
            if pid is None
            else f"process {pid}, {'answers' if responds else 'gives no answer'}"
        )
        print(f"{server.name:<10} 127.0.0.1:{port}  {state}")
    if not up:
        raise ServicesError("not up: `make services` starts them.")


def _answers(probe: Callable[[Identity], None], identity: Identity) -> bool:
    try:
        probe(identity)
    except Exception:  # whatever a client library raises where nothing answers
        return False
    return True


def main() -> int:
    """Run one command; exit code 1 with a sentence where it cannot be done."""
    commands = {"start": start, "stop": stop, "clean": clean, "status": status, "prometheus": watch}
    parser = argparse.ArgumentParser(
        prog="python -m deploy.native", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "command", choices=commands, help="start and stop keep the data; clean removes it"
    )
    command = parser.parse_args().command
    if not sys.platform.startswith("linux"):
        print(
            "services: these run on Linux only; elsewhere the embedded ones serve.", file=sys.stderr
        )
        return 1
    try:
        commands[command](Checkout())
    except ServicesError as error:
        print(f"services: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
