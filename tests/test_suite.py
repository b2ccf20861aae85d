"""What the tests ask of themselves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent


def test_modules_have_names_of_their_own() -> None:
    """Folders of tests are no packages: of two modules with one name the first imported wins."""
    names = Counter(path.name for path in TESTS.rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []
