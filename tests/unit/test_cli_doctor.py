from __future__ import annotations

import dataclasses
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from stream.broker import EmbeddedBroker, ensure_topics
from stream.cli import cli
from stream.doctor import Finding, Status, examine
from stream.settings import Settings
from testbed.waiting import PATIENCE

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


class _Qdrant(http.server.BaseHTTPRequestHandler):
    """As much of a Qdrant server as answers whether a collection is there."""

    def do_GET(self) -> None:
        allowed = self.headers.get("api-key") == "sesame"
        body = {"result": {"exists": True}, "status": "ok", "time": 0.0}
        content = json.dumps(body if allowed else {"status": {"error": "sesame?"}}).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def qdrant() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Qdrant) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure")
def test_a_qdrant_server_is_asked_with_its_key_and_its_refusal_is_told(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker, qdrant() as url:
        right = settings_in(
            tmp_path,
            kafka=broker.bootstrap,
            index="server",
            qdrant_url=url,
            qdrant_api_key="sesame",
        )
        assert findings(right)["index"].status is Status.OK
        wrong = findings(dataclasses.replace(right, qdrant_api_key="other"))["index"]
        assert wrong.status is Status.MISSING
        assert "401" in wrong.words
        assert "sesame" not in wrong.words
    away = findings(dataclasses.replace(right, kafka=NOWHERE))["index"]
    assert away.status is Status.MISSING
    assert "no Qdrant server answers" in away.words


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
