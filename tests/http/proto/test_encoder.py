"""Heads on their way out: what they look like, and that nothing splits them."""

from __future__ import annotations

from enum import Enum

import pytest
from h1_memos import MEMOS, clear_memos, everything_remembered
from hypothesis import given
from hypothesis import strategies as st

from flare.errors import ValidationError
from flare.http.proto.encoder import encode_request_head, field_line, field_lines, status_line
from flare.http.proto.heads import H1Limits, parse_h1_request_head, parse_h1_response_head

SECRET = "hunter2-very-hidden"


class Phrase(str, Enum):  # noqa: UP042 - its format is not its text
    FINE = "Fine"


ITEMS = (("host", "Host", "a"), ("x-y", "X-Y", "\xe9"), ("date", "Date", "now"))


@pytest.mark.parametrize(
    ("status", "reason", "line"),
    [
        (200, "", b"HTTP/1.1 200 OK\r\n"),
        (404, "", b"HTTP/1.1 404 Not Found\r\n"),
        (200, "Fine\t\xe9", b"HTTP/1.1 200 Fine\t\xe9\r\n"),
        (200, "a\r\nSet-Cookie: x=y", b"HTTP/1.1 200 OK\r\n"),
        (200, "a\n", b"HTTP/1.1 200 OK\r\n"),
        (200, "a\x00", b"HTTP/1.1 200 OK\r\n"),
        (200, "a\x1b[0m", b"HTTP/1.1 200 OK\r\n"),
        (200, "\u20ac", b"HTTP/1.1 200 OK\r\n"),
        (200, "\u010a", b"HTTP/1.1 200 OK\r\n"),
        (200, Phrase.FINE, b"HTTP/1.1 200 Fine\r\n"),
    ],
)
def test_a_status_line_is_one_line(status, reason, line):
    for _ in range(2):
        assert status_line(status, reason) == line


@given(st.integers(100, 599), st.text())
def test_any_reason_gives_a_line_that_reads_back(status, reason):
    line = status_line(status, reason)
    head, used = parse_h1_response_head(line + b"\r\n", "GET", H1Limits())
    assert used == len(line) + 2
    assert head.status == status
    assert head.fields.items == ()


def test_field_lines_keep_order_spelling_and_latin_1():
    assert field_lines(ITEMS, frozenset()) == b"Host: a\r\nX-Y: \xe9\r\nDate: now\r\n"
    assert field_lines(ITEMS, frozenset({"x-y"})) == b"Host: a\r\nDate: now\r\n"
    assert field_line("x-y", "\xe9") == field_line("x-y", "\xe9") == b"x-y: \xe9\r\n"


def test_a_request_head_reads_back():
    data = encode_request_head("PATCH", "/x?y#z", ITEMS)
    head, used = parse_h1_request_head(data, H1Limits())
    assert used == len(data)
    assert (head.method, head.target, head.fields.items) == ("PATCH", "/x?y#z", ITEMS)


@pytest.mark.parametrize(
    "method", ["", "G T", "GET\r\n", "GET\n", "G\x00", "G(", "G\xc9", "\u0120ET"]
)
def test_a_method_that_is_no_token_is_refused_before_anything_is_sent(method):
    with pytest.raises(ValidationError) as caught:
        encode_request_head(method, "/", ITEMS)
    assert caught.value.field == "method"


@pytest.mark.parametrize(
    "target",
    ["", "/ ", "/a b", "/\r\nX: y", "/\n", "/\x00", "/\t", "/\x7f", "/\xe9", "/\u010d\u010a",
     "a:80\r\nX: y"],
)  # fmt: skip
def test_a_target_that_could_split_the_request_is_refused(target):
    with pytest.raises(ValidationError) as caught:
        encode_request_head("GET", target, ITEMS)
    assert caught.value.field == "target"
    assert "\n" not in str(caught.value)


def test_secret_lines_are_encoded_but_never_remembered():
    clear_memos()
    for name in (
        "Authorization",
        "Set-Cookie",
        "cookie",
        "X-Api-Key",
        "Proxy-Authorization",
        "Location",
    ):
        assert field_line(name, SECRET) == f"{name}: {SECRET}\r\n".encode()
    field_line("Server", "flare")
    assert SECRET not in everything_remembered()
    assert ("Server", "flare") in MEMOS["encoded"]


def test_what_is_remembered_has_a_bound():
    clear_memos()
    for i in range(3000):
        field_line("X-N", str(i))
    field_line("X-Long", "x" * 300)
    assert len(MEMOS["encoded"]) <= 1024
    assert max(map(len, MEMOS["encoded"].values())) <= 256
