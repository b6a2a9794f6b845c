"""A broker that wants TLS and a login, reached by both of our clients with the same settings."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiokafka
import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from models.errors import BrokerUnavailable
from stream.files.publish import Entry, Publisher
from stream.kafka.broker import ensure_topics, look
from stream.kafka.delivery import Record
from stream.settings import Settings
from stream.shoppers.faust_settings import _credentials
from testbed.kafka import free_ports, real_kafka, why_missing
from testbed.waiting import PATIENCE

pytestmark = pytest.mark.kafka
_PASSWORD = "open-sesame"


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A key store for the broker and its certificate, which is also the authority."""
    store, ca = folder / "broker.p12", folder / "ca.pem"
    common = ["-alias", "broker", "-keystore", str(store), "-storepass", _PASSWORD]
    make = ["keytool", "-genkeypair", *common, "-storetype", "PKCS12", "-keyalg", "EC"]
    make += ["-dname", "CN=weft tests", "-ext", "san=ip:127.0.0.1", "-validity", "30"]
    subprocess.run(make, check=True, capture_output=True)
    export = ["keytool", "-exportcert", "-rfc", *common]
    ca.write_bytes(subprocess.run(export, check=True, capture_output=True).stdout)
    return store, ca


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings for a broker with SASL_SSL and SCRAM-SHA-512."""
    if missing := why_missing():
        pytest.skip(missing)
    store, ca = _certificate(tmp_path_factory.mktemp("tls"))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    login = "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config"
    properties = {
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        login: "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": store,
        "ssl.keystore.password": _PASSWORD,
    }
    user = ["--add-scram", f"SCRAM-SHA-512=[name=weft,password={_PASSWORD}]"]
    with real_kafka(properties, [f"SASL_SSL://{address}"], user):
        yield Settings(
            kafka=address,
            security_protocol="sasl_ssl",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username="weft",
            sasl_password=_PASSWORD,
            ssl_ca=str(ca),
        )


async def _first_value(settings: Settings, topic: str) -> bytes:
    """What Faust's own client reads with the credentials that Faust is given."""
    auth = credentials_to_aiokafka_auth(_credentials(settings))
    consumer = aiokafka.AIOKafkaConsumer(
        topic, bootstrap_servers=settings.kafka, auto_offset_reset="earliest", **auth
    )
    await consumer.start()
    try:
        record = await asyncio.wait_for(consumer.getone(), PATIENCE)
    finally:
        await consumer.stop()
    return bytes(record.value)


def test_both_clients_pass_with_the_same_settings(secure: Settings) -> None:
    ensure_topics(secure)
    Publisher(secure).publish([Entry(0, Record("clicks", b"u", b"sent over TLS"))])
    assert asyncio.run(_first_value(secure, "clicks")) == b"sent over TLS"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sasl_password": "wrong-password"}, "[Aa]uthentication"),
        ({"ssl_ca": ""}, "certificate verify failed|[Cc]ertificate"),
    ],
    ids=["password", "authority"],
)
def test_what_is_refused_says_why_and_shows_no_password(
    secure: Settings, change: dict[str, str], words: str
) -> None:
    with pytest.raises(BrokerUnavailable, match=words) as caught:
        look(dataclasses.replace(secure, **change), timeout=10)  # type: ignore[arg-type]
    assert "wrong-password" not in str(caught.value)
    assert _PASSWORD not in str(caught.value)
