from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from stream.cli import cli
from stream.doctor import examine
from stream.findings import Finding, Status
from stream.index.port import IndexHome
from stream.index.registry import ADAPTERS, adapter_of
from stream.kafka.broker import EmbeddedBroker, ensure_topics
from stream.settings import Settings
from testbed.waiting import PATIENCE
from tests.qdrant_http import fake_qdrant

NOWHERE = "127.0.0.1:9"


def findings(settings: Settings) -> dict[str, Finding]:
    """Waits for a broker that is there as long as it takes, for one that is not no longer."""
    timeout = 0.1 if settings.kafka == NOWHERE else PATIENCE
    return {finding.part: finding for finding in examine(settings, timeout)}


def settings_in(folder: Path, **changes: object) -> Settings:
    base = Settings(kafka=NOWHERE, data_dir=folder)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_no_broker_is_missing_and_the_rest_is_still_examined(tmp_path: Path) -> None:
    found = findings(settings_in(tmp_path))
    assert found["broker"].status is Status.MISSING
    assert "WEFT_KAFKA" in found["broker"].words
    assert set(found) == {"broker", "index", "encoder", "llm", "disk"}


def test_topics_that_the_worker_will_create_are_for_later_and_then_there(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        settings = settings_in(tmp_path, kafka=broker.bootstrap)
        before = findings(settings)
        assert before["topics"].status is Status.LATER
        assert "weft-shoppers-changelog" in before["topics"].words
        ensure_topics(settings)
        after = findings(settings)
        assert (after["topics"].status, after["partitions"].status) == (Status.OK, Status.OK)


def test_an_index_that_another_program_wrote_is_told_to_be_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "index" / "weft-items"
    assert findings(settings_in(tmp_path))["index"].status is Status.LATER
    folder.mkdir(parents=True)
    for manifest in ("{", "[]", '{"format":0,"encoder":"e"}'):
        (folder / "manifest.json").write_text(manifest)
        broken = findings(settings_in(tmp_path))["index"]
        assert broken.status is Status.MISSING
        assert "delete it" in broken.words
    (folder / "manifest.json").write_text('{"format":1,"encoder":"e"}')
    assert findings(settings_in(tmp_path))["index"].status is Status.OK


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure")
def test_a_qdrant_server_is_asked_with_its_key_and_its_refusal_is_told(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker, fake_qdrant() as server:
        server.api_key = "sesame"
        right = settings_in(
            tmp_path,
            kafka=broker.bootstrap,
            index="server",
            qdrant_url=server.url,
            qdrant_api_key="sesame",
        )
        assert findings(right)["index"].status is Status.LATER
        adapter_of(right).open(IndexHome(right), "", "hash-8", 8).close()
        assert findings(right)["index"].status is Status.OK
        wrong = findings(dataclasses.replace(right, qdrant_api_key="other"))["index"]
        assert wrong.status is Status.MISSING
        assert "401" in wrong.words
        assert "sesame" not in wrong.words
    away = findings(dataclasses.replace(right, kafka=NOWHERE))["index"]
    assert away.status is Status.MISSING
    assert "WEFT_QDRANT_URL" in away.words


def test_another_groups_collection_is_named_as_such(tmp_path: Path) -> None:
    with fake_qdrant() as server:
        base = settings_in(tmp_path, index="server", qdrant_url=server.url, collection="items")
        other = dataclasses.replace(base, group="other")
        adapter_of(other).open(IndexHome(other), "", "hash-8", 8).close()
        found = findings(base)["index"]
        assert found.status is Status.MISSING
        assert "the group 'other'" in found.words
        assert "WEFT_COLLECTION" in found.words


def test_an_index_that_nobody_knows_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    found = findings(settings_in(tmp_path, index="papyrus"))["index"]
    assert found.status is Status.MISSING
    assert found.words == f"index='papyrus' must be one of {', '.join(ADAPTERS)}"


def test_weights_that_the_settings_do_not_ask_for_may_be_missing(tmp_path: Path) -> None:
    assert findings(settings_in(tmp_path, rerank="never"))["llm"].status is Status.LATER
    asked = findings(settings_in(tmp_path, rerank="always"))["llm"]
    assert asked.status is Status.MISSING
    assert "weft models fetch" in asked.words


def test_a_data_folder_that_is_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = findings(settings_in(tmp_path / "file"))
    assert found["disk"].status is Status.MISSING
    assert "WEFT_DATA_DIR" in found["disk"].words


def test_the_command_ends_with_1_and_prints_no_secret(tmp_path: Path) -> None:
    environment = {
        "WEFT_KAFKA": "127.0.0.1:9",
        "WEFT_DATA_DIR": str(tmp_path),
        "WEFT_SECURITY_PROTOCOL": "sasl_plaintext",
        "WEFT_SASL_USERNAME": "weft",
        "WEFT_SASL_PASSWORD": "open-sesame",
    }
    result = CliRunner().invoke(cli, ["doctor", "--json", "--timeout", "1"], env=environment)
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["ok"] is False
    assert report["findings"][0]["part"] == "broker"
    assert "open-sesame" not in result.output
