"""Header sections read in place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare.http.proto.errors import HttpParseError
from flare.http.proto.header_view import HeaderMapView, parse_header_view
from flare.http.proto.headers import HeaderMap

DATA = b"Host: h\r\nAccept:a\r\nX-Empty:\r\nACCEPT: \t b \t\r\n\r\nnot: looked\0at"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_fields_are_found_in_any_bytes_like_object(kind):
    view = parse_header_view(kind(DATA))
    assert view.len() == len(view) == 4
    assert view.get("HOST") == "h"
    assert view.get_all("accept") == ["a", "b"]
    assert view.get("x-empty") == view.get("missing") == ""
    assert view.contains("X-Empty")
    assert "host" in view
    assert not view.contains("not")
    assert list(view) == [("Host", "h"), ("Accept", "a"), ("X-Empty", ""), ("ACCEPT", "b")]


def test_owning_keeps_repeated_fields():
    owned = parse_header_view(DATA).into_owned()
    assert isinstance(owned, HeaderMap)
    assert owned.items() == list(parse_header_view(DATA))
    assert owned.get_all("accept") == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (b"", []),
        (b"\r\n", []),
        (b"\nA: 1", []),
        (b"A: 1", [("A", "1")]),
        (b"A: 1\nB: 2\n\nC: 3", [("A", "1"), ("B", "2")]),
        (b"A: 1\r\nB: 2\n", [("A", "1"), ("B", "2")]),
        (b"A:\xe9\x85\xa0\r\n", [("A", "\xe9\x85\xa0")]),
        (b"A: b:c\r\n", [("A", "b:c")]),
        (b"A: x \t y\r\n", [("A", "x \t y")]),
        (b"A:  \t \r\n", [("A", "")]),
    ],
)
def test_lines_end_in_crlf_or_lf_and_the_section_at_an_empty_one(data, fields):
    assert list(parse_header_view(data)) == fields


FIELD_LINE, FIELD_VALUE = HttpParseError.BAD_FIELD_LINE, HttpParseError.BAD_FIELD_VALUE


@pytest.mark.parametrize(
    ("data", "variant"),
    [
        (b"no colon\r\n", FIELD_LINE), (b"A: 1\r\nno colon", FIELD_LINE), (b": v\r\n", FIELD_LINE),
        (b"A : v\r\n", FIELD_LINE), (b" A: v\r\n", FIELD_LINE), (b"A: 1\r\n folded: x", FIELD_LINE),
        (b"A\xe9: v\r\n", FIELD_LINE), (b"A\0: v\r\n", FIELD_LINE), (b"\r", FIELD_LINE),
        (b"A\rB: v\r\n", FIELD_LINE), (b"(A): v\r\n", FIELD_LINE), (b"\xa0A: v", FIELD_LINE),
        (b"A: \0\r\n", FIELD_VALUE), (b"A: a\rb\r\n", FIELD_VALUE), (b"A: v\r\r\n", FIELD_VALUE),
        (b"A: v\r", FIELD_VALUE), (b"A: \x1b[0m\r\n", FIELD_VALUE), (b"A: \x7f", FIELD_VALUE),
    ],
)  # fmt: skip
def test_a_line_that_is_no_field_is_an_error(data, variant):
    with pytest.raises(HttpParseError) as caught:
        parse_header_view(data)
    assert caught.value.variant == variant
    assert caught.value.status == 400


def test_the_error_does_not_quote_the_value():
    with pytest.raises(HttpParseError) as caught:
        parse_header_view(b"Authorization: hunter2\0\r\n")
    assert "hunter2" not in str(caught.value)
    assert "Authorization" in str(caught.value)


def test_names_are_matched_by_ascii_case_only():
    view = parse_header_view(b"Cookie: v\r\n")
    assert not view.contains("Coo\u212aie")
    assert view.get_all("Coo\u212aie") == []
    assert 5 not in view


def test_a_view_can_be_made_of_offsets():
    view = HeaderMapView(b"AbCde", [(0, 1, 2, 5)])
    assert list(view) == [("A", "Cde")]


def test_a_view_over_a_released_buffer_raises():
    buffer = memoryview(b"A: 1\r\n")
    view = HeaderMapView(buffer, [(0, 1, 3, 4)])
    assert view.get("a") == "1"
    buffer.release()
    for use in (lambda: view.get("a"), lambda: list(view), view.into_owned):
        with pytest.raises(ValueError, match="released"):
            use()


def test_repr_masks_secrets():
    text = repr(parse_header_view(b"Cookie: hunter2\r\nA: 1"))
    assert text == "HeaderMapView(HeaderMap([('Cookie', '***'), ('A', '1')]))"


lines = st.sampled_from([b"A: 1\r\n", b"B:\r\n", b"\r\n", b"\n", b" ", b"\r", b":", b"c", b"\0"])


@given(st.binary() | st.lists(lines).map(b"".join))
def test_any_bytes_are_refused_or_read_the_same_by_every_road(data):
    try:
        view = parse_header_view(data)
    except HttpParseError:
        with pytest.raises(HttpParseError):
            parse_header_view(memoryview(data))
        return
    owned = view.into_owned()
    assert list(parse_header_view(memoryview(data))) == list(view) == owned.items()
    assert HeaderMap(owned.items()).items() == owned.items()
    for name in owned:
        assert view.get_all(name) == owned.get_all(name)


@pytest.mark.parametrize("unit", [b"A:\n", b"A: \t", b"a", b"A: 1\r\n", b":", b"A: x\t"])
def test_a_long_run_of_anything_is_read_in_one_pass(unit):
    data = b"A:" + unit * (300_000 // len(unit))
    try:
        parse_header_view(data + b"\0")
    except HttpParseError:
        pass
