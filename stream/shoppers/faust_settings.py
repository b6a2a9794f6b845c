"""Faust's settings, out of Weft's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import faust

from stream.settings import Settings

#: Seconds that a worker may take nothing and stay in its group: while the index or a topic is away.
#: Past it aiokafka leaves the group, and without a poll it joins no more, for ever. Heartbeats say
#: whether a worker lives, and its health file whether it works.
_ANY_OUTAGE: Final = 14 * 86_400.0
#: Milliseconds until the topics are looked at anew: what the group was assigned while a topic was
#: not there, made again or with its broker restarting, lacks it until then. Faust's are 5 minutes.
_METADATA_AGE: Final = 15_000


def faust_settings(settings: Settings, partitions: int) -> dict[str, Any]:
    """What the app is made with."""
    servers = ";".join(f"kafka://{server.strip()}" for server in settings.kafka.split(","))
    return {
        "broker": servers,
        "broker_credentials": _credentials(settings),
        "store": "memory://",
        "datadir": Path(settings.data_dir) / "faust",
        "value_serializer": "raw",
        "topic_partitions": partitions,
        "topic_replication_factor": settings.replicas,
        "topic_disable_leader": True,
        # start-up has created every topic and checked its partitions
        "topic_allow_declare": False,
        "table_standby_replicas": 0,
        "web_enabled": False,
        "stream_wait_empty": False,
        "stream_buffer_maxsize": 4096,
        "broker_max_poll_records": 2000,
        "broker_session_timeout": settings.session_timeout,
        # by its next heartbeat a worker hears of a rebalance, and all wait for the last to hear
        "broker_heartbeat_interval": min(settings.session_timeout / 5, 0.5),
        "broker_max_poll_interval": _ANY_OUTAGE,
        "consumer_metadata_max_age_ms": _METADATA_AGE,
        "broker_commit_every": 5000,
        "broker_commit_interval": 1.0,
        "producer_linger": 0.02,
    }


def _credentials(settings: Settings) -> Any:
    """Faust's way to say what ``stream.settings.kafka_config`` says to librdkafka."""
    import ssl

    protocol = settings.security_protocol
    context = None
    if protocol.endswith("ssl"):
        context = ssl.create_default_context(cafile=settings.ssl_ca or None)
        if settings.ssl_certificate:
            context.load_cert_chain(
                settings.ssl_certificate,
                settings.ssl_key or None,
                settings.ssl_key_password or None,
            )
    if protocol.startswith("sasl"):
        return faust.SASLCredentials(
            username=settings.sasl_username,
            password=settings.sasl_password,
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None


def quieten(*_: Any, **__: Any) -> None:
    """Faust and its libraries build debug records that nobody reads: a tenth of the time."""
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in ("faust", "mode", "aiokafka", "asyncio"):
            logging.getLogger(name).setLevel(logging.WARNING)
