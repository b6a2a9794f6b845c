"""The container set-up, as far as it can be judged without a Docker engine."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def compose_command() -> list[str] | None:
    """The Compose plugin, or the older program of its own."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, check=False)
            if done.returncode == 0:
                return command
    return None


@pytest.mark.docker
def test_compose_itself_takes_the_file() -> None:
    command = compose_command()
    if command is None:
        pytest.skip("neither `docker compose` nor `docker-compose` is installed")
    arguments = ["-f", str(ROOT / "docker-compose.yml"), "config", "--quiet"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_port_is_published_on_loopback_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_are_pinned_and_volumes_declared() -> None:
    for service in COMPOSE["services"].values():
        if image := service.get("image"):
            name, _, version = image.partition(":")
            assert version not in ("", "latest"), name
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"]


def test_the_worker_waits_for_healthy_parts_and_every_service_has_a_health_check() -> None:
    services = COMPOSE["services"]
    assert services["worker"]["depends_on"] == {
        "kafka": {"condition": "service_healthy"},
        "qdrant": {"condition": "service_healthy"},
    }
    assert all("healthcheck" in services[name] for name in ("kafka", "qdrant"))
    assert "\nHEALTHCHECK " in DOCKERFILE


def test_the_workers_variables_are_settings() -> None:
    known = {PREFIX + field.name.upper() for field in dataclasses.fields(Settings)}
    assert set(COMPOSE["services"]["worker"]["environment"]) <= known
    assert "WEFT_DATA_DIR" in known


def test_the_host_reaches_kafka_at_the_default_address_of_the_settings() -> None:
    environment = COMPOSE["services"]["kafka"]["environment"]
    assert f"HOST://{Settings().kafka}" in environment["KAFKA_ADVERTISED_LISTENERS"]
    inside = COMPOSE["services"]["worker"]["environment"]["WEFT_KAFKA"]
    assert f"INSIDE://{inside}" in environment["KAFKA_ADVERTISED_LISTENERS"]


def test_the_worker_does_not_run_as_root() -> None:
    lines = DOCKERFILE.splitlines()
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER weft"]
    assert lines.index("USER weft") < lines.index('ENTRYPOINT ["weft"]')


def test_the_workers_root_is_read_only_and_it_holds_no_right_it_does_not_need() -> None:
    worker = COMPOSE["services"]["worker"]
    assert worker["read_only"] is True
    assert worker["cap_drop"] == ["ALL"]
    assert worker["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in worker
    assert "user" not in worker  # the image's, which is not root


def test_all_that_a_worker_writes_lies_on_its_volume_or_in_tmp() -> None:
    (volume,) = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)
    writable = [volume, *COMPOSE["services"]["worker"]["tmpfs"]]
    assert writable == ["/var/lib/weft", "/tmp"]
    for name in ("WEFT_DATA_DIR", "HF_HOME", "XDG_CACHE_HOME"):
        (folder,) = re.findall(rf"\b{name}=(\S+)", DOCKERFILE)
        assert Path(folder).is_relative_to(volume) or Path(folder).is_relative_to("/tmp"), name
    assert "PYTHONDONTWRITEBYTECODE=1" in DOCKERFILE


def test_what_the_image_is_built_from_is_there() -> None:
    for line in DOCKERFILE.splitlines():
        if line.startswith("COPY "):
            for name in line.split()[1:-1]:
                assert f"!{name}" in (ROOT / ".dockerignore").read_text().splitlines()
                if name != "README.md":
                    assert (ROOT / name).exists()
