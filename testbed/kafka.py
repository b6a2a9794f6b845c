"""A real Apache Kafka without Docker: one KRaft node in a Java process, from Maven artifacts.

    with real_kafka() as kafka:
        kafka.create_topics("clicks", partitions=4)
        client = Producer({"bootstrap.servers": kafka.bootstrap})

The jars (43 MB) are copied once to .kafka/ in the checkout; data lies in a temporary folder;
the newest broker's log is kept as .kafka/broker.log.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

_POM = Path(__file__).with_name("kafka-pom.xml")
_CACHE = Path(__file__).parents[1] / ".kafka"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

#: One node, little memory, quick groups. Topics must be created: a shop's cluster demands it too.
_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": (
        "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL"
    ),
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": 4,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "group.consumer.min.session.timeout.ms": 1000,
    "num.network.threads": 2,
    "num.io.threads": 4,
    "log.cleaner.dedupe.buffer.size": 8 << 20,
}


class KafkaMissing(RuntimeError):
    """Java or Maven is not installed; the words say which."""


class RealKafka:
    """A running broker; ``restart`` keeps its address and its data."""

    def __init__(
        self,
        folder: Path,
        overrides: Mapping[str, object] | None = None,
        listeners: Sequence[str] = (),
        format_arguments: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._port, controller = free_ports(2)
        self.bootstrap = f"127.0.0.1:{self._port}"
        self.log = folder / "broker.log"
        self._classpath = f"{_jars()}/*"
        self._process: subprocess.Popen[bytes] | None = None
        clients = ",".join([f"PLAINTEXT://{self.bootstrap}", *listeners])
        properties = _PROPERTIES | {
            "listeners": f"{clients},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": clients,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": folder / "data",
        }
        lines = [f"{name}={value}" for name, value in (properties | dict(overrides or {})).items()]
        self._config = folder / "server.properties"
        self._config.write_text("\n".join(lines) + "\n")
        self._format(format_arguments)

    def _java(self, *arguments: str) -> list[str]:
        quiet = ["-Dlog4j2.level=WARN", "-XX:+UseSerialGC"]
        return ["java", "-Xmx512m", *quiet, "-cp", self._classpath, *arguments]

    def _format(self, arguments: Sequence[str]) -> None:
        cluster = uuid.uuid4().hex[:22]
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._config)]
        tool += arguments
        done = subprocess.run(self._java(*tool), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"Kafka could not format its storage:\n{done.stdout}{done.stderr}")

    def start(self, timeout: float = 240.0) -> None:
        """Starts the broker and returns when a client is answered."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._config)),
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C ends the tests first, then they end the broker
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )
        until = time.monotonic() + timeout
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                tail = self.log.read_text(errors="replace")[-4000:]
                raise RuntimeError(f"Kafka ended, or did not start within {timeout:.0f} s:\n{tail}")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, KafkaException):
            socket.create_connection(("127.0.0.1", self._port), 1).close()
            return bool(self.admin().list_topics(timeout=5).brokers)
        time.sleep(0.1)
        return False

    def stop(self) -> None:
        """An orderly stop: SIGTERM, then SIGKILL after a minute."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
        self.kill()

    def kill(self) -> None:
        """The power fails: SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stops and starts again, with the same address and data."""
        self.stop()
        self.start()

    def admin(self) -> AdminClient:
        """A new admin client that logs nothing while the broker is away."""
        config: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "log_level": 0,
            "error_cb": _ignore,
        }
        return AdminClient(config)

    def create_topics(
        self, *names: str, partitions: int = 4, config: Mapping[str, str] | None = None
    ) -> None:
        """Creates topics; returns when the broker has them."""
        topics = [NewTopic(name, partitions, 1, config=dict(config or {})) for name in names]
        admin = self.admin()  # its futures live no longer than it does
        for future in admin.create_topics(topics, operation_timeout=120).values():
            future.result(120)
        # The controller has them now; the broker learns of it some milliseconds later.
        while not set(names) <= admin.list_topics(timeout=120).topics.keys():
            time.sleep(0.01)

    def delete_topics(self, *names: str) -> None:
        """Deletes topics; returns when the broker has forgotten them."""
        admin = self.admin()
        for future in admin.delete_topics(list(names), operation_timeout=120).values():
            future.result(120)


@contextlib.contextmanager
def real_kafka(
    overrides: Mapping[str, object] | None = None,
    listeners: Sequence[str] = (),
    format_arguments: Sequence[str] = (),
) -> Iterator[RealKafka]:
    """Yields a started broker and ends it. ``overrides`` are lines of server.properties.

    ``listeners`` come beside the plain one, ``format_arguments`` go to the storage tool. Raises
    ``KafkaMissing`` where Java or Maven is not installed.
    """
    if missing := why_missing():
        raise KafkaMissing(missing)
    folder = Path(tempfile.mkdtemp(prefix="weft-kafka-"))
    kafka = None
    try:
        kafka = RealKafka(folder, overrides, listeners, format_arguments)
        kafka.start()
        yield kafka
    finally:
        if kafka is not None:
            kafka.stop()
            shutil.copy(kafka.log, _CACHE / "broker.log")
        shutil.rmtree(folder, ignore_errors=True)


def why_missing() -> str | None:
    """What must be installed first, in words, or None."""
    if shutil.which("java") is None:
        return "a real Kafka needs Java 17: install openjdk-17-jre-headless"
    if shutil.which("mvn") is None and not _library().is_dir():
        return "a real Kafka is fetched by Maven: install maven"
    return None


def _library() -> Path:
    """Where the jars of this very pom lie."""
    return _CACHE / f"libs-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]}"


def _jars() -> Path:
    """The folder of jars, fetched on first use (once, even if several processes ask)."""
    library = _library()
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.is_dir():
            part = library.with_suffix(".part")
            command = ["mvn", "-q", "-B", "-f", str(_POM), _COPY, f"-DoutputDirectory={part}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"Maven could not fetch Kafka:\n{done.stdout}{done.stderr}")
            part.rename(library)
    return library


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that no client is given as its own while a broker restarts.

    Those that systems give out begin at 32768 (Linux) or higher.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.choice([p for p in range(20_000, 32_768) if p not in found])
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            found.append(port)
    return found


def die_with_parent() -> None:
    """Runs in the child: SIGKILL when the tests die without tidying up (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(1)


def _ignore(_: object) -> None:
    """An error callback: librdkafka's complaints about a broker that is still starting."""
