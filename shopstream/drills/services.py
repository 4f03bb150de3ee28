"""Broken services: a broker or a database that dies, forgets, or is another one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from flows.registry import FLOWS, UPSTREAM_FIRST
from shopstream.drills import records
from shopstream.drills.private import PrivateServices
from shopstream.drills.stage import PARTITIONS, Stage, expect, url_of
from shopstream.kafka import topics
from shopstream.kafka.groups import Group


def _generated(stage: Stage, ledger: str, seed: int, *options: str) -> None:
    sending = stage.generate(*options, "--seed", str(seed), ledger=ledger)
    stage.wait_until("the generator to end", lambda: sending.poll() is not None, 300)
    expect(sending.returncode == 0, "the generator failed: see generator.log")


def _stops(stage: Stage, flow: str, *words: str) -> str:
    """Wait until a flow stops with exit code 3, and give its last words, which have the words."""
    code = stage.exit_of(flow)
    said = stage.last_words(flow)
    expect(code == 3, f"{flow} ended with {code}, not 3: {said}")
    for word in words:
        expect(word in said, f"{flow} does not say {word!r}: {said}")
    return said


def broker(stage: Stage, private: PrivateServices, seed: int, away: int) -> dict[str, Any]:
    """Kill the broker, and let it be away for a while; twice."""
    stage.start_all()
    _generated(stage, "ledger", seed, "--rate", "400", "--duration", "8")
    for seconds in (1, away):
        stage.produce([records.keyed(records.view(seed * 2**40 + seconds, "v", records.now_ms()))])
        private.kill_kafka()
        time.sleep(seconds)
        private.start_kafka()
    stage.produce([records.keyed(records.view(seed * 2**41, "v", records.now_ms()))])
    return {"away_seconds": [1, away], "proof": stage.prove(ledger=None)}


def power(stage: Stage, private: PrivateServices, seed: int) -> dict[str, Any]:
    """Cut the end of raw.web off, as a power cut does, and let new records take its offsets."""
    stage.start_all()
    visitor = "v"
    first = [
        records.keyed(records.view(seed * 2**40 + i, visitor, records.now_ms())) for i in range(100)
    ]
    for record in first:  # one batch each, so that the log can be cut between two records
        stage.produce([record], partition=0)
    stage.drain()
    stage.stop(*stage.actors)
    private.kill_kafka()
    kept = cut(private.log_folder / f"{stage.topic('raw_web')}-0", keep=60)
    private.start_kafka()
    for i in range(50):
        # another visitor, since one is counted once in each log that is there within a minute
        event = records.view(seed * 2**40 + 1_000 + i, "w", records.now_ms())
        stage.produce([records.keyed(event)], partition=0)
    for flow in UPSTREAM_FIRST[1:]:
        stage.start(flow)
    stage.start("clean")
    said = _stops(stage, "clean", f"offsets {kept} to 99", "accept-loss clean")
    done = stage.command("accept-loss", "clean", "--yes")
    expect(done.returncode == 0, done.stderr)
    stage.start("clean")
    proof = stage.prove(ledger=None)
    losses = stage.losses()
    wanted = ("clean", stage.topic("raw_web"), 0, kept, 100, 100 - kept)
    expect([row[:6] for row in losses] == [wanted], f"the ledger has {losses}")
    ((accepted,),) = stage.query("SELECT sum(events)::int FROM gold.traffic_1m")
    expect(accepted == 150, f"gold counts {accepted} events, not 150")
    return {"cut_at": kept, "said": said, "losses": losses, "proof": proof}


def cut(folder: Path, keep: int) -> int:
    """Cut a partition's log off behind its first records; gives the offset at which it ends."""
    (segment,) = sorted(folder.glob("*.log"))
    data = segment.read_bytes()
    position = end = 0
    while position < len(data) and end < keep:
        base = int.from_bytes(data[position : position + 8], "big")
        length = int.from_bytes(data[position + 8 : position + 12], "big")
        last_delta = int.from_bytes(data[position + 23 : position + 27], "big")
        position, end = position + 12 + length, base + last_delta + 1
    with segment.open("r+b") as log:
        log.truncate(position)
    for index in (*folder.glob("*.index"), *folder.glob("*.timeindex"), *folder.glob("*.snapshot")):
        index.unlink()
    for checkpoint in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint"):
        _forget(folder.parent / checkpoint, folder.name)
    return end


def _forget(checkpoint: Path, partition: str) -> None:
    """Remove a partition's line from a checkpoint of the broker."""
    if not checkpoint.exists():
        return
    written = checkpoint.read_text().splitlines()
    if len(written) < 2:
        return
    version, _, *lines = written
    topic, _, number = partition.rpartition("-")
    kept = [line for line in lines if not line.startswith(f"{topic} {number} ")]
    checkpoint.write_text("\n".join([version, str(len(kept)), *kept]) + "\n")


def incarnation(stage: Stage, private: PrivateServices, seed: int) -> dict[str, Any]:
    """Make raw.web anew, then all of Kafka, then wipe the database."""
    proofs: list[Any] = []
    stage.start_all()
    _generated(stage, "first", seed, "--rate", "300", "--duration", "5")
    stage.drain()
    letters = _letters(stage)
    before = _events(stage)
    stage.stop(*stage.actors)

    _make_anew(stage, "raw_web")
    _generated(stage, "second", seed + 1, "--rate", "300", "--duration", "5")
    stage.start("clean")
    stage.start("deadletters")
    stage.start("quality")
    stage.start("metrics")
    said = [_stops(stage, "metrics", "made anew", "reattach")]
    for flow in ("quality", "deadletters"):
        said.append(_stops(stage, flow, "made anew", "reattach"))
    done = stage.command("reattach", "--yes")
    expect(done.returncode == 0, done.stdout + done.stderr)
    for flow in ("metrics", "quality", "deadletters"):
        stage.start(flow)
    stage.drain()
    proofs.append(_proved(stage))
    expect(_letters(stage) > letters, "the new topic's dead letters were not stored")
    expect(_events(stage) > before, "the new topic's events were not counted")
    after_topic = _events(stage)

    stage.stop(*stage.actors)
    private.kill_kafka()
    private.wipe_kafka()
    private.start_kafka()
    topics.ensure(stage.settings, PARTITIONS)
    _generated(stage, "third", seed + 2, "--rate", "300", "--duration", "5")
    for flow in UPSTREAM_FIRST:
        stage.start(flow)
    said.append(_stops(stage, "metrics", "reattach"))
    for flow in ("quality", "deadletters"):
        said.append(_stops(stage, flow, "reattach"))
    done = stage.command("reattach", "--yes")
    expect(done.returncode == 0, done.stdout + done.stderr)
    for flow in ("metrics", "quality", "deadletters"):
        stage.start(flow)
    stage.drain()
    expect(_events(stage) > after_topic, "the new broker's events were not counted")

    stage.stop(*stage.actors)
    _wipe_database(stage, private)
    stage.start_all()
    proofs.append(stage.prove("third"))
    return {"said": said, "proof": proofs}


def _proved(stage: Stage) -> str:
    residues = stage.residues()
    expect(residues == (0, 0), f"residue {residues[0]}, gold residue {residues[1]}")
    return "no residue"


def _events(stage: Stage) -> int:
    ((events,),) = stage.query("SELECT coalesce(sum(events), 0)::int FROM gold.traffic_1m")
    return int(events)


def _letters(stage: Stage) -> int:
    ((letters,),) = stage.query("SELECT count(*)::int FROM quality.dead_letters")
    return int(letters)


def _make_anew(stage: Stage, topic: str) -> None:
    client = AdminClient({"bootstrap.servers": stage.services.bootstrap, "log_level": 0})
    name = stage.topic(topic)
    client.delete_topics([name], operation_timeout=30)[name].result()
    stage.wait_until("the topic to go", lambda: name not in topics.existing(client), 30)
    topics.ensure(stage.settings, PARTITIONS)


def _wipe_database(stage: Stage, private: PrivateServices) -> None:
    name = stage.services.database_url.rpartition("/")[2]
    with psycopg.connect(private.services.database_url, autocommit=True) as owner:
        owner.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        owner.execute(f"CREATE DATABASE {name}".encode())
    done = stage.command("migrate")
    expect(done.returncode == 0, done.stderr)


def database(stage: Stage, private: PrivateServices, seed: int, away: int) -> dict[str, Any]:
    """Kill, stop, lock, crowd and restore the database, and make it read-only."""
    stage.start_all()
    steps: list[tuple[str, Callable[[], None]]] = [
        ("killed", lambda: _killed(private, 0)),
        (f"away for {away} s", lambda: _killed(private, away)),
        ("read-only", lambda: _read_only(stage, private, 4)),
        ("a lock is held", lambda: _locked(stage, 4)),
        ("no connection left", lambda: _crowded(private, 4)),
    ]
    sending = stage.generate("--rate", "300", "--duration", str(20 + 3 * away), "--seed", str(seed))
    for name, step in steps:
        time.sleep(2)
        stage.tend()
        print(f"  {name}", flush=True)
        step()
    time.sleep(2)
    backup = _backup(stage, private)
    time.sleep(4)
    stage.drain("clean", "metrics") if sending.poll() is not None else stage.tend()
    _restore(stage, private, backup)
    stage.wait_until("the generator to end", lambda: sending.poll() is not None, 300)
    proof = stage.prove()
    restarts = {name: actor.restarts for name, actor in stage.actors.items()}
    return {
        "steps": [name for name, _ in steps] + ["restored"],
        "restarts": restarts,
        "proof": proof,
    }


def _killed(private: PrivateServices, away: int) -> None:
    private.kill_postgres()
    time.sleep(away)
    private.start_postgres()


def _as_superuser(private: PrivateServices, *statements: str, database: str = "postgres") -> None:
    url = url_of(private.superuser_url, database)
    with psycopg.connect(url, autocommit=True) as db:
        for statement in statements:
            db.execute(statement.encode())


def _read_only(stage: Stage, private: PrivateServices, seconds: int) -> None:
    name = stage.services.database_url.rpartition("/")[2]
    end = (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        " AND pid <> pg_backend_pid()"
    )
    on = f"ALTER DATABASE {name} SET default_transaction_read_only = on"
    _as_superuser(private, on, end)
    time.sleep(seconds)
    _as_superuser(private, f"ALTER DATABASE {name} RESET default_transaction_read_only", end)


def _locked(stage: Stage, seconds: int) -> None:
    with psycopg.connect(stage.services.database_url) as db:
        db.execute("LOCK TABLE ops.progress IN ACCESS EXCLUSIVE MODE")
        time.sleep(seconds)


def _crowded(private: PrivateServices, seconds: int) -> None:
    """Take every connection that an ordinary role can have, and end those of the flows."""
    taken = []
    try:
        with psycopg.connect(private.superuser_url, autocommit=True) as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'shopstream'"
            )
            while True:
                taken.append(psycopg.connect(private.services.database_url))
    except psycopg.OperationalError:
        time.sleep(seconds)
    finally:
        for connection in taken:
            connection.close()


def _backup(stage: Stage, private: PrivateServices) -> str:
    """Copy the database as it is."""
    name = stage.services.database_url.rpartition("/")[2]
    end = (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        " AND pid <> pg_backend_pid()"
    )
    for _ in range(50):
        try:
            _as_superuser(
                private, end, f"CREATE DATABASE {name}_backup TEMPLATE {name} OWNER shopstream"
            )
            return f"{name}_backup"
        except psycopg.errors.ObjectInUse:
            time.sleep(0.05)
    raise RuntimeError("the database cannot be copied")


def _restore(stage: Stage, private: PrivateServices, backup: str) -> None:
    """Put the copy in the place of the database, while flows run."""
    name = stage.services.database_url.rpartition("/")[2]
    _as_superuser(
        private,
        f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        f"DROP DATABASE {name} WITH (FORCE)",
        f"ALTER DATABASE {backup} RENAME TO {name}",
    )


def retention(stage: Stage, private: PrivateServices, seed: int) -> dict[str, Any]:
    """Let retention overtake each flow that is down; the operator accepts, or it goes on."""
    said = []
    for policy in ("fail", "continue"):
        for flow in ("clean", "metrics", "quality", "deadletters"):
            said.append(_overtaken(stage, flow, policy, seed))
            seed += 1
    losses = stage.losses()
    return {"said": said, "losses": losses}


def _overtaken(stage: Stage, flow: str, policy: str, seed: int) -> str:
    source = {
        "clean": "raw_web",
        "metrics": "clean_web",
        "quality": "tallies",
        "deadletters": "dead_letters",
    }[flow]
    for name in UPSTREAM_FIRST:
        stage.start(name)
    stage.produce(_some(seed, 40))
    stage.drain()
    stage.stop(flow)
    known = {tuple(row) for row in stage.losses()}
    stage.produce(_some(seed + 1_000, 60))
    if flow != "clean":
        stage.drain("clean")
    deleted = delete_records(stage, source, keep=2)
    expect(deleted > 0, f"nothing was deleted from {source}")
    stage.start(flow, SHOPSTREAM_LOST_RECORDS=policy)
    said = policy
    if policy == "fail":
        said = _stops(stage, flow, f"accept-loss {flow}")
        for _ in range(6):
            done = stage.command("accept-loss", flow, "--yes")
            expect(done.returncode == 0, done.stderr)
            stage.start(flow)
            time.sleep(3)
            if stage.actors[flow].process.poll() != 3:
                break
            stage.actors.pop(flow)
    stage.drain(flow)
    found = [row for row in stage.losses() if tuple(row) not in known and row[0] == flow]
    lost = sum(row[5] for row in found if row[6].startswith("deleted"))
    expect(lost == deleted, f"{flow}: {deleted} records were deleted, the ledger has {found}")
    stage.stop(*stage.actors)
    return said


def _some(seed: int, count: int) -> list[records.Raw]:
    made: list[records.Raw] = []
    for i in range(count):
        event = records.view(seed * 2**20 + i, f"v{i % 20}", records.now_ms() - 100 + i)
        made.append(records.keyed(event))
        if i % 3 == 0:
            made.append((b"x", b"nobody reads this"))
    return made


def delete_records(stage: Stage, topic: str, keep: int) -> int:
    """Delete all but the newest records; gives how many no flow has read."""
    client = AdminClient({"bootstrap.servers": stage.services.bootstrap, "log_level": 0})
    name = stage.topic(topic)
    flow = next(f for f in FLOWS if stage.settings.topic(f.reads) == name)
    with Group(stage.settings, flow) as group:
        places = group.places()
    ends = [TopicPartition(name, p.partition, max(p.low, p.high - keep)) for p in places]
    for future in client.delete_records(ends).values():
        future.result(timeout=20)
    return sum(max(0, end.offset - place.resume) for place, end in zip(places, ends, strict=True))


def foreign(stage: Stage, private: PrivateServices, seed: int) -> dict[str, Any]:
    """Write as other clients do: codecs, no key, transactions, and straight into clean.web."""
    stage.start_all()
    written = sum(len(_some(seed + number, 30)) for number in range(5))
    for number, codec in enumerate(("none", "gzip", "snappy", "lz4", "zstd")):
        stage.produce(_some(seed + number, 30), codec=codec)
    aborted, committed = _transactions(stage, seed)
    at = records.now_ms()
    strangers = [
        records.clean_event(1, (0, 10**12), at),
        records.clean_event(2, (0, 5), at + 86_400_000 * 400, source_timestamp=at),
        b"no avro",
    ]
    stage.drain()
    stage.produce([(b"x", value) for value in strangers], topic="clean_web", partition=0)
    stage.produce(_some(seed + 77, 30))
    stage.drain()
    ((refused,),) = stage.query(
        "SELECT count(*)::int FROM quality.dead_letters WHERE flow = 'metrics'"
    )
    expect(refused == len(strangers), f"metrics refused {refused} of {len(strangers)} strangers")
    ((control,),) = stage.query("SELECT sum(control)::int FROM ops.account")
    residues = stage.residues()
    expect(residues == (0, 0), f"residue {residues[0]}, gold residue {residues[1]}")
    expect(control > 0, "no marker of a transaction was told")
    return {
        "written": written,
        "committed": committed,
        "aborted": aborted,
        "control": control,
        "refused_by_metrics": refused,
    }


def _transactions(stage: Stage, seed: int) -> tuple[int, int]:
    producer = Producer(
        {
            "bootstrap.servers": stage.services.bootstrap,
            "transactional.id": f"drill-{seed}",
            "partitioner": "murmur2_random",
            "log_level": 0,
        }
    )
    producer.init_transactions(30)
    counts = []
    for commit in (True, False):
        producer.begin_transaction()
        made = _some(seed + 500 + commit, 20)
        for key, value in made:
            producer.produce(stage.topic("raw_web"), value, key)
        producer.flush(30)
        producer.commit_transaction(30) if commit else producer.abort_transaction(30)
        counts.append(len(made))
    return counts[1], counts[0]
