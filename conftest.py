"""For every test, of Weft and of its benches: no bound in time, one process for a real Kafka."""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before anything imports torch. Two processes of tests with a pool of threads each would wait
    # for one another; children inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

# On a busy machine an example takes as long as it takes; the blob makes a failure again.
settings.register_profile(
    "weft", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("weft")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives each file to one process, and all that need the session's Kafka to the same one.

    So a file's fixtures are made once, and one broker serves all. Those come first: they are the
    longest share that cannot be divided.
    """
    for item in items:
        kafka = item.get_closest_marker("kafka") is not None
        item.add_marker(pytest.mark.xdist_group("kafka" if kafka else item.location[0]))
    items.sort(key=lambda item: item.get_closest_marker("kafka") is None)
