"""All settings, read once: environment over file over default, into one frozen dataclass."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from models.errors import InvalidSettings
from models.recommend.popularity import DAYS
from models.recommend.rules import Rules

PREFIX = "WEFT_"


def _setting(
    default: Any,
    words: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    secret: bool = False,
) -> Any:
    """A field with its help text and its range; secrets stay out of ``repr``."""
    bounds = {"words": words, "low": low, "high": high, "choices": choices, "secret": secret}
    return field(default=default, repr=not secret, metadata=bounds)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set, in the order in which ``weft worker --help`` lists it."""

    # Kafka
    kafka: str = _setting("127.0.0.1:9092", "bootstrap servers, host:port[,host:port]")
    group: str = _setting("weft", "consumer group; also the prefix of the changelog's name")
    topic_prefix: str = _setting("", "put before the name of each topic")
    partitions: int = _setting(4, "partitions of topics that Weft creates", low=1, high=10_000)
    replicas: int = _setting(1, "replication factor of topics that Weft creates", low=1, high=9)
    partitioner: str = _setting(
        "murmur2_random",
        "how your producers map keys to partitions",
        choices=("murmur2_random", "consistent_random"),
    )
    session_timeout: float = _setting(
        10.0, "seconds until a dead worker's partitions are taken over", low=1, high=1800
    )
    changelog_start: int = _setting(
        0, "offset before which deleted states of the changelog are accepted", low=0, high=2**53
    )
    security_protocol: str = _setting(
        "plaintext",
        "how to talk to the broker",
        choices=("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
    )
    sasl_mechanism: str = _setting(
        "SCRAM-SHA-512",
        "with sasl_*: how to log in",
        choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    )
    sasl_username: str = _setting("", "with sasl_*: the user")
    sasl_password: str = _setting("", "with sasl_*: the password", secret=True)
    ssl_ca: str = _setting("", "PEM file of the authority that signed the broker's certificate")
    ssl_certificate: str = _setting("", "PEM file of the client's certificate")
    ssl_key: str = _setting("", "PEM file of the client's key")
    ssl_key_password: str = _setting("", "password of the client's key", secret=True)
    # Items
    index: str = _setting("edge", "where items live")  # see stream/index/registry.py
    qdrant_url: str = _setting("http://127.0.0.1:6333", "with index=server: the server's address")
    qdrant_api_key: str = _setting("", "with index=server: the API key", secret=True)
    qdrant_ca: str = _setting("", "PEM file of the authority that signed the server's certificate")
    qdrant_timeout: float = _setting(
        10.0, "with index=server: seconds a call may take", low=0.1, high=600
    )
    collection: str = _setting(
        "", "name of the index of items; empty: GROUP-PREFIXitems, so that each group has its own"
    )
    data_dir: Path = _setting(
        Path(".weft"), "folder of the embedded index, the vector cache and converted weights"
    )
    # Recommending
    list_size: int = _setting(10, "items in a list", low=1, high=200)
    candidates: int = _setting(
        0,
        "items that the LLM scores a list; 0: as many as a bundle's validation had; without one "
        "50, or 20 on a CPU without AMX",
        low=0,
        high=500,
    )
    bought: str = _setting(
        "hide",
        "what a shopper bought: hide it from their lists, or show it again where its score says",
        choices=("hide", "show"),
    )
    rerank: str = _setting(
        "gate",
        "gate: the measured weight decides; always: at rerank_weight; never",
        choices=("gate", "always", "never"),
    )
    rerank_weight: float = _setting(
        0.3, "with rerank=always: weight of the LLM's score in the fusion", low=0.0, high=1.0
    )
    deadline: float = _setting(
        2.0, "seconds a batch may take until its lists go out without the LLM", low=0.01, high=600
    )
    batch_size: int = _setting(256, "events gathered to one batch at most", low=1, high=100_000)
    batch_wait: float = _setting(0.005, "seconds to wait for a batch to fill", low=0.0, high=10.0)
    popularity: str = _setting(
        "gate",
        "what is popular of late in everyone's list, gate: as much as was measured; never: only "
        "where nothing else is known",
        choices=("gate", "never"),
    )
    popularity_days: int = _setting(DAYS, "days of events that count as popular", low=1, high=365)
    llm: str = _setting("", "folder or hub name of the LLM; empty: SmolLM2-135M-Instruct")
    encoder: str = _setting("", "folder or hub name of the encoder; empty: all-MiniLM-L6-v2")
    encoder_type: str = _setting(
        "auto",
        "the encoder's numbers; auto: what this CPU is quickest with. Workers that share an index "
        "need the same",
        choices=("auto", "int8", "fp32", "bf16"),
    )
    bundle: str = _setting(
        "",
        "trained bundle to serve: a folder, a name or an id; none: never one; empty: what "
        "`weft models use` says",
    )
    bundles: str = _setting(
        "", "folders that hold bundles, with ':' between them; empty: bundles in the data folder"
    )
    threads: int = _setting(0, "threads of the models; 0: all cores", low=0, high=1024)
    # Operation
    log_level: str = _setting(
        "info", "what is logged", choices=("debug", "info", "warning", "error")
    )

    @property
    def rules(self) -> Rules:
        """The shop's rules: the settings that have the names of their fields."""
        return Rules(**{rule.name: getattr(self, rule.name) for rule in dataclasses.fields(Rules)})


def load(
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
    **overrides: Any,
) -> Settings:
    """Settings from ``overrides`` over ``WEFT_*`` over the TOML file over the defaults.

    The file is ``file``, or what ``WEFT_CONFIG`` names, or none. A secret may be given as
    ``WEFT_<NAME>_FILE``, a file that holds it. Raises ``InvalidSettings``.
    """
    environment = os.environ if environment is None else environment
    named = file or (Path(environment["WEFT_CONFIG"]) if environment.get("WEFT_CONFIG") else None)
    values: dict[str, Any] = dict(_from_file(named)) if named else {}
    values |= _from_environment(environment)
    values |= {name: value for name, value in overrides.items() if value is not None}
    return _checked(values)


def _from_file(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidSettings(f"cannot read the settings file {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidSettings(f"the settings file {path} is not UTF-8") from None
    except (ValueError, RecursionError) as error:  # the parser's own, or Python's on a long number
        words = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InvalidSettings(f"cannot read the settings file {path}: {words}") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    known = {f.name: f for f in dataclasses.fields(Settings)}
    values: dict[str, Any] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        secret_name = name.removesuffix("_file")
        if name in known:
            values[name] = value
        elif secret_name in known and known[secret_name].metadata["secret"]:
            values[secret_name] = _secret(variable, Path(value))
    return values


def _secret(variable: str, path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        # No path and no bytes: whoever puts the secret itself there must not find it in a log.
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InvalidSettings(f"{variable} names a file that cannot be read: {reason}") from None


def _checked(values: Mapping[str, Any]) -> Settings:
    known = {f.name: f for f in dataclasses.fields(Settings)}
    hints = get_type_hints(Settings)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise InvalidSettings(
                f"unknown setting {name!r}; `weft worker --help` lists the known ones"
            )
        checked[name] = _converted(name, value, hints[name], known[name].metadata)
    return Settings(**checked)


def _converted(name: str, value: Any, kind: type, bounds: Mapping[str, Any]) -> Any:
    shown = "(hidden)" if bounds["secret"] else _shown(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Path)):
        raise InvalidSettings(f"{name}={shown} must be {_kind_words(kind)}")
    try:
        converted = kind(value)
        if kind is int and isinstance(value, float) and converted != value:
            raise ValueError  # 2.5 is no whole number, and is not taken for 2
        str(converted).encode()
    except (TypeError, ValueError, OverflowError):
        raise InvalidSettings(f"{name}={shown} must be {_kind_words(kind)}") from None
    if bounds["choices"] and converted not in bounds["choices"]:
        raise InvalidSettings(f"{name}={shown} must be one of {', '.join(bounds['choices'])}")
    low, high = bounds["low"], bounds["high"]
    if low is not None and not low <= converted <= high:  # refuses NaN too
        raise InvalidSettings(f"{name}={shown} must lie from {low} to {high}")
    return converted


def _shown(value: object) -> str:
    """A value for an error's words: escaped by ``repr``, and no longer than a line."""
    try:
        told = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "(a very long number)"
    return told if len(told) <= 100 else told[:99] + "…"


def _kind_words(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "text", Path: "a path"}[kind]


def describe(
    choices: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> list[tuple[str, str, str]]:
    """(variable, default, words) of every setting, for the help and docs/.

    ``choices`` are those of settings that are checked elsewhere, by name.
    """
    rows = []
    for entry in dataclasses.fields(Settings):
        words = entry.metadata["words"]
        if allowed := entry.metadata["choices"] or choices.get(entry.name):
            words += f" ({' | '.join(allowed)})"
        rows.append((PREFIX + entry.name.upper(), str(entry.default), words))
    return rows


def kafka_config(settings: Settings) -> dict[str, str | int | float | bool]:
    """What every librdkafka client gets: address, security and partitioner-free basics."""
    config: dict[str, str | int | float | bool] = {
        "bootstrap.servers": settings.kafka,
        "security.protocol": settings.security_protocol,
        "client.id": "weft",
    }
    if settings.security_protocol.startswith("sasl"):
        config["sasl.mechanism"] = settings.sasl_mechanism
        config["sasl.username"] = settings.sasl_username
        config["sasl.password"] = settings.sasl_password
    if settings.security_protocol.endswith("ssl"):
        files = {
            "ssl.ca.location": settings.ssl_ca,
            "ssl.certificate.location": settings.ssl_certificate,
            "ssl.key.location": settings.ssl_key,
            "ssl.key.password": settings.ssl_key_password,
        }
        config.update({name: value for name, value in files.items() if value})
    return config
