from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder whose name is short, for there is little room in a socket's path."""
    with tempfile.TemporaryDirectory(prefix="flare-") as name:
        yield Path(name)


@pytest.fixture
def path(folder: Path) -> Path:
    """Where a socket may be made."""
    return folder / "s"
