"""Case folding that knows only ASCII."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.http.proto.ascii import ascii_eq_ignore_case, ascii_lower, ascii_unchecked_string


@pytest.mark.parametrize(
    ("text", "lower"),
    [("", ""), ("Host", "host"), ("A-Z_09", "a-z_09"), ("É", "É"), ("\u212a", "\u212a"),
     ("İX", "İx"), ("ß@[", "ß@[")],
)  # fmt: skip
def test_only_ascii_letters_are_lowered(text, lower):
    assert ascii_lower(text) == lower


@given(st.text())
def test_lowering_touches_each_character_by_itself(text):
    assert ascii_lower(text) == "".join(c.lower() if "A" <= c <= "Z" else c for c in text)


def test_comparison_ignores_ascii_case_only():
    assert ascii_eq_ignore_case("ChunKed", "chunked")
    assert not ascii_eq_ignore_case("chun\u212aed", "chunked")
    assert not ascii_eq_ignore_case("chunked ", "chunked")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_become_text_of_the_same_length(kind):
    data = bytes(range(256))
    text = ascii_unchecked_string(kind(data))
    assert text.encode("latin-1") == data
