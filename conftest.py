"""For every test, of Weft and of its benches: no bound in time, one process for a real Kafka."""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before anything imports torch. Two processes of tests with a pool of threads each would wait
    # for one another; children inherit it.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

from hypothesis import HealthCheck, settings

# On a busy machine an example takes as long as it takes; the blob makes a failure again.
settings.register_profile(
    "weft", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("weft")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives each file to one process, and all that use the session's Kafka to the same one.

    So a file's fixtures are made once, and one broker serves all. That share cannot be divided, so
    it comes first: no process is left with it at the end.
    """
    for item in items:
        uses_kafka = "kafka" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("kafka" if uses_kafka else item.location[0]))
    items.sort(key=lambda item: item.get_closest_marker("kafka") is None)
