"""Fixtures that several folders share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.kafka import RealKafka, real_kafka, why_missing


@pytest.fixture(scope="session")
def kafka() -> Iterator[RealKafka]:
    """A real Apache Kafka for the whole session; tests that use it are marked ``kafka``.

    Topics outlive a test: give each test's names a prefix of its own.
    """
    if missing := why_missing():
        pytest.skip(missing)
    with real_kafka() as broker:
        yield broker


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder for the whole session: exports and conversions are made in it once."""
    return tmp_path_factory.mktemp("weights")
