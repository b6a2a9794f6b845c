"""No secret is in a repr, an error, a log or a report; and settings that are wrong say so."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import pprint
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from models.errors import BrokerUnavailable, InvalidSettings
from stream.cli import cli
from stream.doctor import examine
from stream.kafka.broker import look
from stream.settings import Settings, describe, load
from stream.shoppers.faust_settings import _credentials
from testbed.kafka import free_ports

SECRETS = [field.name for field in dataclasses.fields(Settings) if field.metadata["secret"]]
WORD = "open-sesame-7f3a"


def told(error: BaseException) -> str:
    """All that a crash would print, causes and contexts included."""
    return "".join(traceback.format_exception(error))


def test_what_is_named_like_a_secret_is_one() -> None:
    named = {
        field.name
        for field in dataclasses.fields(Settings)
        if any(part in field.name for part in ("password", "secret", "token", "api_key"))
    }
    assert named == set(SECRETS)
    assert len(SECRETS) >= 3


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_used_and_not_shown(name: str) -> None:
    read = load({f"WEFT_{name.upper()}": WORD})
    assert getattr(read, name) == WORD
    assert WORD not in "".join([repr(read), f"{read}", pprint.pformat(read), str(describe())])
    assert repr(load({})) == repr(read)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_comes_from_a_file_without_its_lines_end(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{WORD}\n")
    read = load({f"WEFT_{name.upper()}_FILE": str(tmp_path / "secret")})
    assert getattr(read, name) == WORD


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    "line",
    [
        '{name} = ["{word}"]',
        '{name} = {{ a = "{word}" }}',
        '{name} = "{word}',
        "{name} = {word}",
        "{name} = '{word}' '{word}'",
        '{name} = "{word}"\n{name} = "{word}"',
        '[{name}]\na = "{word}"',
        '{name} = """{word}\\q"""',
        '{name}_ = "{word}"',
        '{name} = "{word}"\npartitions = "many"',
        '{name} = "{word}"\ndeadline = nan',
    ],
)
def test_a_wrong_line_about_a_secret_is_refused_without_it(
    name: str, line: str, tmp_path: Path
) -> None:
    file = tmp_path / "weft.toml"
    file.write_text(line.format(name=name, word=WORD))
    with pytest.raises(InvalidSettings) as caught:
        load({}, file)
    assert WORD not in told(caught.value)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_the_place_of_its_files_name_is_not_shown(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=f"{name.upper()}_FILE names a file") as caught:
        load({f"WEFT_{name.upper()}_FILE": WORD})
    assert WORD not in told(caught.value)
    (tmp_path / "secret").write_bytes(WORD.encode() + b"\xff")
    with pytest.raises(InvalidSettings, match="not UTF-8") as caught:
        load({f"WEFT_{name.upper()}_FILE": str(tmp_path / "secret")})
    assert WORD not in told(caught.value)


@pytest.mark.parametrize("value", [[WORD], {WORD: WORD}, True, b"x", "\udcff" + WORD])
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_of_the_wrong_kind_is_refused_without_it(name: str, value: Any) -> None:
    with pytest.raises(InvalidSettings, match=name) as caught:
        load({}, **{name: value})
    assert WORD not in told(caught.value)


def everything(folder: Path, index: str, protocol: str) -> Settings:
    """Settings with every secret set and nothing that answers."""
    kafka, qdrant = (f"127.0.0.1:{port}" for port in free_ports(2))
    key = folder / "key.pem"
    key.write_text("no key")
    secrets: dict[str, Any] = dict.fromkeys(SECRETS, WORD)
    return Settings(
        kafka=kafka,
        index=index,
        qdrant_url=f"http://{qdrant}",
        security_protocol=protocol,
        sasl_username="weft",
        ssl_key=str(key) if protocol.endswith("ssl") else "",
        data_dir=folder,
        **secrets,
    )


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Every library's log, down to its debugging."""
    with caplog.at_level(logging.DEBUG):
        yield caplog


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure")
@pytest.mark.parametrize("protocol", ["sasl_plaintext", "sasl_ssl", "ssl"])
@pytest.mark.parametrize("index", ["edge", "server"])
def test_neither_the_doctor_nor_any_log_shows_a_secret(
    index: str, protocol: str, tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    settings = everything(tmp_path, index, protocol)
    found = list(examine(settings, timeout=0.2))
    assert any(finding.part == "broker" and finding.status == "missing" for finding in found)
    with pytest.raises((BrokerUnavailable, InvalidSettings)) as caught:
        look(settings, timeout=0.2)
    shown = [*(finding.words for finding in found), told(caught.value), heard.text, repr(settings)]
    with contextlib.suppress(OSError):
        shown.append(repr(_credentials(settings)))
    assert WORD not in "\n".join(shown)


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure")
def test_the_doctors_command_prints_and_writes_no_secret(
    tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    settings = everything(tmp_path, "server", "sasl_plaintext")
    environment = {
        f"WEFT_{field.name.upper()}": str(getattr(settings, field.name))
        for field in dataclasses.fields(Settings)
    }
    for arguments in ([], ["--json"]):
        done = CliRunner().invoke(cli, ["doctor", "--timeout", "1", *arguments], env=environment)
        assert done.exit_code == 1
        assert WORD not in done.output + heard.text
    assert json.loads(done.stdout)["ok"] is False


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("partitions = inf", "a whole number"),
        ("partitions = 2.5", "a whole number"),
        (f"partitions = 0x{'f' * 5000}", "very long number"),
        (f"partitions = {'9' * 5000}", "cannot read"),
        (f"deadline = 0x{'f' * 5000}", "a number"),
        (f"kafka = {'[' * 5000}", "nested too deeply"),
        ('log_level = "' + "x" * 5000 + '"', "must be one of"),
    ],
    ids=["infinite", "a fraction", "hexadecimal", "digits", "beyond floats", "nested", "long"],
)
def test_what_no_setting_can_be_is_refused_in_a_line(line: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "weft.toml"
    file.write_text(line)
    with pytest.raises(InvalidSettings, match=words) as caught:
        load({}, file)
    assert len(str(caught.value)) < 400 + len(str(file))
