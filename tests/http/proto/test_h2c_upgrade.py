"""Which HTTP/1.1 requests ask for HTTP/2, and whose settings can be used."""

from __future__ import annotations

import pytest

from flare.http.proto.h2c_upgrade import decode_http2_settings, detect_h2c_upgrade
from flare.http.proto.headers import HeaderMap

ASKS = [
    ("Connection", "Upgrade, HTTP2-Settings"),
    ("Upgrade", "h2c"),
    ("HTTP2-Settings", "AAIAAAAAAAYAACAA"),
]


def with_change(name: str, *values: str) -> HeaderMap:
    fields = [(each, value) for each, value in ASKS if each != name]
    return HeaderMap([*fields, *((name, value) for value in values)])


def test_a_whole_request_for_h2c_is_seen():
    assert detect_h2c_upgrade(HeaderMap(ASKS))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Connection", ["upgrade,\thttp2-settings"]),
        ("Connection", ["keep-alive, UPGRADE", "HTTP2-Settings"]),
        ("Upgrade", ["H2C"]),
        ("Upgrade", ["websocket, h2c"]),
    ],
)
def test_lists_and_case_make_no_difference(name: str, values: list[str]):
    assert detect_h2c_upgrade(with_change(name, *values))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Connection", []),
        ("Connection", ["Upgrade"]),
        ("Connection", ["HTTP2-Settings"]),
        ("Connection", ["UpgradeHTTP2-Settings"]),
        ("Upgrade", []),
        ("Upgrade", ["websocket"]),
        ("Upgrade", ["h2"]),
        ("Upgrade", ["h2c/1"]),
        ("HTTP2-Settings", []),
        ("HTTP2-Settings", [""]),
        ("HTTP2-Settings", ["AAIAAAAA", "AAIAAAAA"]),
    ],
)
def test_anything_missing_or_twice_is_no_request_for_it(name: str, values: list[str]):
    assert not detect_h2c_upgrade(with_change(name, *values))


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("AAIAAAAAAAYAACAA", "000200000000000600002000"),
        ("AAMAAABk", "000300000064"),
        ("AAQAAP__", "00040000ffff"),
        ("AAQAAP//", None),  # the other alphabet
        ("AAMAAABk====", None),
        ("AAMAAA", None),  # part of a setting
        ("A", None),
        ("not base64!", None),
        ("\xe9\xe9\xe9\xe9", None),
    ],
)
def test_settings_are_base64url_of_whole_settings(text: str, payload: str | None):
    decoded = decode_http2_settings(HeaderMap([("HTTP2-Settings", text)]))
    assert (None if decoded is None else decoded.hex()) == payload
