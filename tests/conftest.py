"""What every test gets: proof that it left no thread, socket, descriptor or child behind."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

import hypothesis
import pytest
from leaks import nothing_is_left_behind

# A timing decides no test: an example may take as long as a busy machine makes it.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")

# Imported by tests in several folders, so it must be named before any of them.
pytest.register_assert_rewrite("tls_peers")

# The tests speak to this machine alone, whatever proxy stands between it and the world.
for _name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.lower(), None)

# Some hundred interpreters are started here; each would compile all that it imports anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: many tests wait for a deadline to pass."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """Spare each collection of garbage the modules and tests, which last as long as the process."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    with nothing_is_left_behind():
        yield
