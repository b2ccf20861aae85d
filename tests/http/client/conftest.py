"""What the client's tests share: certificates, made once, and a clock."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "tls"))
from tls_peers import Pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority and certificates by it."""
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``ticking(seconds)``: from here on the clock of calls moves by so much with each look at it,
    and never by itself, so that no pause of the machine is part of a call's time."""

    def begin(seconds: float) -> None:
        looks = itertools.count()
        monkeypatch.setattr("flare.http.client.timeouts.monotonic", lambda: next(looks) * seconds)

    return begin
