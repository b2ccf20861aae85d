"""Counting CPUs: the machine's, the process's, the control group's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flare.runtime import cpu_quota, cpus, default_worker_count, num_cpus


@pytest.fixture
def group(tmp_path: Path) -> tuple[Path, Path]:
    """A control group tree /a/b and a process in it, without limits."""
    root = tmp_path / "cgroup"
    (root / "a" / "b").mkdir(parents=True)
    membership = tmp_path / "membership"
    membership.write_text("4:memory:/elsewhere\n0::/a/b\n")
    return root, membership


def test_there_is_at_least_one_cpu(monkeypatch):
    assert num_cpus() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert num_cpus() == 1


@pytest.mark.parametrize(
    ("own", "parent", "top", "quota"),
    [
        (None, None, None, None),
        ("max 100000", "max 100000", None, None),
        ("150000 100000", None, None, 1.5),
        ("max 100000", "200000 100000", None, 2.0),
        ("400000 100000", "200000 100000", "300000 100000", 2.0),
        (None, None, "50000 100000", 0.5),
        ("garbage", "", "100000 0", None),
    ],
)
def test_the_quota_is_the_least_of_the_groups_around(group, own, parent, top, quota):
    root, membership = group
    for path, text in ((root / "a" / "b", own), (root / "a", parent), (root, top)):
        if text is not None:
            (path / "cpu.max").write_text(text + "\n")
    assert cpu_quota(root, membership) == quota


def test_a_system_without_control_groups_has_no_quota(tmp_path):
    assert cpu_quota(tmp_path / "none", tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("usable", "quota", "count"),
    [
        (8, None, 8),
        (8, 1.5, 2),
        (8, 0.1, 1),
        (8, 2.0, 2),
        (2, 64.0, 2),
        (1000, None, 256),
        (0, None, 1),
    ],
)
def test_workers_are_the_usable_cpus_cut_to_the_quota(monkeypatch, usable, quota, count):
    monkeypatch.setattr(cpus, "cpu_quota", lambda: quota)
    monkeypatch.setattr(cpus, "usable_cpus", lambda: list(range(usable)))
    monkeypatch.setattr(os, "process_cpu_count", lambda: usable, raising=False)
    assert default_worker_count() == count


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_the_affinity_mask_bounds_the_workers():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert default_worker_count() == 1
    finally:
        os.sched_setaffinity(0, before)
