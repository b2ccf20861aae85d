"""What the client's tests share: certificates, made once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "tls"))
from tls_peers import Pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority and certificates by it."""
    return Pki(tmp_path_factory.mktemp("pki"))
