"""Tables of names: methods, statuses, standard fields, frequent values."""

from __future__ import annotations

import http

import pytest

from flare.errors import REASON_PHRASES
from flare.http.proto.header_phf import (
    StandardHeader,
    is_standard_header,
    lookup_standard_header_bytes,
    lookup_standard_header_string,
    standard_header_count,
    standard_header_name,
)
from flare.http.proto.intern import (
    MethodIntern,
    ValueIntern,
    intern_common_value,
    intern_common_value_string,
    intern_method_bytes,
    intern_method_string,
)
from flare.http.proto.method import Method
from flare.http.proto.status import Status

KINDS = pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])


def constants(namespace: type) -> dict[str, object]:
    return {name: value for name, value in vars(namespace).items() if name.isupper()}


METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


def test_the_nine_methods_are_their_own_names():
    assert constants(Method) == constants(MethodIntern) == {name: name for name in METHODS}


@KINDS
def test_methods_are_interned_exactly(kind):
    for name in METHODS:
        assert intern_method_bytes(kind(name.encode())) is getattr(Method, name)
        assert intern_method_string("".join([*name])) is getattr(Method, name)
    for other in (b"get", b"GET ", b"", b"PRI", b"x" * 100_000):
        assert intern_method_bytes(kind(other)) is None
        assert intern_method_string(other.decode()) is None


@KINDS
def test_values_are_interned_exactly(kind):
    assert len(constants(ValueIntern)) == 12
    for value in constants(ValueIntern).values():
        assert intern_common_value(kind(value.encode())) is value
        assert intern_common_value_string("".join([*value])) is value
    for other in (b"Text/HTML", b"", b"gzip ", b"x" * 100_000):
        assert intern_common_value(kind(other)) is None
        assert intern_common_value_string(other.decode()) is None


def test_there_are_seventy_standard_headers_numbered_in_order():
    found = constants(StandardHeader)
    assert list(found.values()) == list(range(70))
    assert standard_header_count() == len({*found}) == 70
    for name, index in found.items():
        assert standard_header_name(index) == name.lower().replace("_", "-")


@pytest.mark.parametrize(
    ("index", "name"),
    [(0, "host"), (9, "via"), (10, "etag"), (19, "content-range"), (24, "warning"),
     (28, "proxy-authorization"), (36, "content-location"), (44, "retry-after"),
     (46, "set-cookie"), (55, "access-control-request-headers"), (60, "x-real-ip"),
     (65, "sec-websocket-extensions"), (69, "strict-transport-security"), (70, ""), (-1, ""),
     (10**9, "")],
)  # fmt: skip
def test_standard_headers_stand_at_their_numbers(index, name):
    assert standard_header_name(index) == name


@KINDS
def test_standard_headers_are_looked_up_in_any_ascii_case(kind):
    for index in range(70):
        name = standard_header_name(index)
        for text in (name, name.upper(), name.title()):
            assert lookup_standard_header_bytes(kind(text.encode())) == index
            assert lookup_standard_header_string(text) == index
            assert is_standard_header(kind(text.encode()))
            assert is_standard_header(text)
    for other in ("", "x-nothing", "host ", "coo\u212aie", "h" * 100_000):
        assert lookup_standard_header_string(other) == -1
        assert lookup_standard_header_bytes(kind(other.encode())) == -1
        assert not is_standard_header(other)


def test_every_status_of_the_standard_library_has_a_name_and_is_a_plain_int():
    found = constants(Status)
    assert {int(each) for each in http.HTTPStatus} <= set(found.values())
    assert len(set(found.values())) == len(found)
    assert all(type(value) is int for value in found.values())


def test_status_names_are_their_registered_phrases():
    for name, value in constants(Status).items():
        words = "REQUEST_HEADER_FIELDS_TOO_LARGE" if value == 431 else name
        phrase = REASON_PHRASES[value].upper().replace("'", "").replace("-", "_")
        assert phrase.replace(" ", "_") == words
