"""Byte scanners."""

from __future__ import annotations

import re
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.http.proto import errors
from flare.http.proto.simd_parsers import (
    HttpParseError,
    simd_cookie_scan,
    simd_memmem,
    simd_percent_decode,
)

KINDS = pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])


def test_the_error_class_is_the_codec_s():
    assert HttpParseError is errors.HttpParseError


@KINDS
@pytest.mark.parametrize(
    ("haystack", "needle", "offset"),
    [(b"abcabc", b"c", 2), (b"abc", b"", 0), (b"", b"", 0), (b"", b"a", -1), (b"abc", b"abcd", -1),
     (b"a\0b", b"\0", 1)],
)  # fmt: skip
def test_memmem_finds_the_first_occurrence(kind, haystack, needle, offset):
    assert simd_memmem(kind(haystack), kind(needle)) == offset


@KINDS
@pytest.mark.parametrize(
    ("data", "decoded"),
    [(b"", b""), (b"abc", b"abc"), (b"a+b", b"a b"), (b"%41%62", b"Ab"), (b"%2B+", b"+ "),
     (b"%25 41", b"% 41"), (b"%2541", b"%41"), (b"%e9%E9", b"\xe9\xe9"), (b"%00%0a", b"\0\n"),
     (b"\xff", b"\xff")],
)  # fmt: skip
def test_percent_decoding(kind, data, decoded):
    assert simd_percent_decode(kind(data)) == decoded


@pytest.mark.parametrize(
    ("data", "variant"),
    [(b"%", 1), (b"a%4", 1), (b"%41%", 1), (b"%%", 1), (b"%x", 1), (b"%zz", 2), (b"%4g", 2),
     (b"%+1", 2), (b"% 1", 2), (b"%0x41", 2), (b"%%41", 2), (b"%zz%", 2), (b"%1_", 2),
     (b"%\xd9\xa3", 2)],
)  # fmt: skip
def test_bad_escapes_are_told_apart(data, variant):
    output = bytearray(b"kept")
    with pytest.raises(HttpParseError) as caught:
        simd_percent_decode(data, output)
    assert caught.value == HttpParseError(variant)
    assert output == b"kept"


def test_decoding_appends_where_asked():
    output = bytearray(b"a")
    assert simd_percent_decode(b"%62", output) == b"b"
    assert output == b"ab"


@given(st.binary())
def test_decoding_undoes_encoding(data):
    assert simd_percent_decode(urllib.parse.quote_plus(data).encode()) == data


@given(st.binary() | st.text("%+0aAgz").map(str.encode))
def test_decoding_agrees_with_the_standard_library_or_is_refused(data):
    try:
        decoded = simd_percent_decode(data)
    except HttpParseError:
        assert re.search(rb"%(?![0-9A-Fa-f]{2})", data)
        return
    assert not re.search(rb"%(?![0-9A-Fa-f]{2})", data)
    assert decoded == urllib.parse.unquote_to_bytes(data.replace(b"+", b" "))


@KINDS
def test_cookie_scan_gives_every_semicolon(kind):
    assert simd_cookie_scan(kind(b"a=1; b=2;;")) == [3, 8, 9]
    assert simd_cookie_scan(kind(b"")) == []
    offsets = [7]
    assert simd_cookie_scan(kind(b";"), offsets) is offsets
    assert offsets == [7, 0]
