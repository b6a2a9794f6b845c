"""Fixtures that several folders share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.kafka import RealKafka, real_kafka, why_missing

ROOT = Path(__file__).parents[1]


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
    """A data folder for the whole session, with the checkout's weights: nothing is converted anew.

    What is not there yet (`weft models fetch`) is made in it, and changes nothing in the checkout.
    """
    folder = tmp_path_factory.mktemp("weights")
    (folder / "weights").mkdir()
    fetched = Path(os.environ.get("WEFT_DATA_DIR", ROOT / ".weft")) / "weights"
    for made in fetched.glob("[!.]*"):
        if made.is_dir():
            (folder / "weights" / made.name).symlink_to(made.resolve())
        else:  # tests write to the measurement
            shutil.copy(made, folder / "weights" / made.name)
    return folder
