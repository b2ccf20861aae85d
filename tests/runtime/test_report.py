"""``ShutdownReport`` and the package's lazy names."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys

import pytest

import flare.runtime
from flare.runtime import ShutdownReport


def test_a_report_is_a_frozen_value_of_four_counts():
    report = ShutdownReport(drained=3, timed_out=1, in_flight_at_deadline=1)
    assert report == ShutdownReport(3, 1, 1, 0)
    assert ShutdownReport() == ShutdownReport(0, 0, 0, 0)
    assert pickle.loads(pickle.dumps(report)) == report
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.drained = 4  # type: ignore[misc]


def test_every_exported_name_exists():
    for name in flare.runtime.__all__:
        assert getattr(flare.runtime, name) is not None
    assert set(flare.runtime.__all__) <= set(dir(flare.runtime))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        flare.runtime.nothing


def test_importing_the_package_loads_none_of_its_modules():
    code = (
        "import sys, flare.runtime\n"
        "assert not [m for m in sys.modules if m.startswith('flare.runtime.')]\n"
        "from flare.runtime import Reactor, TimerWheel, DateCache, ShutdownReport\n"
        "assert 'ctypes' not in sys.modules and 'socket' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
