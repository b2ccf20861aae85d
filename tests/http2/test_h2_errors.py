"""Errors and configurations of HTTP/2."""

from __future__ import annotations

import copy
import pickle

import pytest

from flare.errors import NetworkError, ValidationError
from flare.http2 import (
    H2Error,
    H2ErrorCode,
    HpackError,
    Http2ClientConfig,
    Http2ClientConnection,
    Http2Config,
    Http2Connection,
    Http2Error,
    Http2ErrorCode,
    build_h2c_settings_payload,
    is_h2_alpn,
)
from flare.http2.config import settings_pairs


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Http2Error(1), "Http2Error(PROTOCOL_ERROR)"),
        (Http2Error(8, 3), "Http2Error(CANCEL) on stream 3"),
        (Http2Error(0xB, 0, "enough"), "Http2Error(ENHANCE_YOUR_CALM): enough"),
        (Http2Error(0xFACE, 1), "Http2Error(0xface) on stream 1"),
        (HpackError("cut short"), "HpackError(COMPRESSION_ERROR): cut short"),
    ],
)
def test_an_error_says_what_and_where_and_can_be_copied(error: Http2Error, text: str):
    assert str(error) == text
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert str(again) == text
        assert (again.code, again.stream_id, again.debug) == (
            error.code,
            error.stream_id,
            error.debug,
        )


def test_errors_are_network_errors_by_code():
    error = Http2Error(7)
    assert isinstance(error, NetworkError)
    assert isinstance(error, OSError)
    assert error.errno is None
    assert error.code is Http2ErrorCode.REFUSED_STREAM
    assert Http2Error(99).code == 99
    assert isinstance(HpackError(), ValueError)
    assert H2Error is Http2Error
    assert H2ErrorCode is Http2ErrorCode
    assert [code.value for code in Http2ErrorCode] == list(range(14))


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("max_concurrent_streams", 0, 2**32 - 1),
        ("initial_window_size", 0, 2**31 - 1),
        ("max_frame_size", 16384, 16777215),
        ("max_header_list_size", 0, 2**32 - 1),
        ("max_header_fields", 0, None),
        ("header_table_size", 0, 2**32 - 1),
        ("connection_window_size", 65535, 2**31 - 1),
        ("rst_burst", 0, None),
        ("rst_per_second", 0, None),
        ("settings_ack_timeout_ms", 0, None),
        ("header_timeout_ms", 0, None),
        ("write_timeout_ms", 0, None),
        ("max_settings_entries", 1, None),
        ("max_queued_bytes", 1, None),
        ("max_body_size", 0, None),
    ],
)
def test_a_configuration_is_checked_at_its_bounds(field: str, low: int, high: int | None):
    kinds = [Http2Config]
    if hasattr(Http2ClientConfig(), field):
        kinds.append(Http2ClientConfig)
    for kind in kinds:
        kind(**{field: low}).validate()
        bad = [low - 1]
        if high is not None:
            kind(**{field: high}).validate()
            bad.append(high + 1)
        for value in bad:
            with pytest.raises(ValidationError, match=field):
                kind(**{field: value}).validate()


def test_a_connection_checks_its_configuration():
    with pytest.raises(ValidationError):
        Http2Connection.with_config(Http2Config(max_frame_size=1))
    with pytest.raises(ValidationError):
        Http2ClientConnection.with_config(Http2ClientConfig(max_frame_size=1))
    with pytest.raises(TypeError):
        Http2Config(100)  # type: ignore[misc]


def test_only_what_differs_from_the_protocol_is_announced():
    assert settings_pairs(Http2Config()) == {3: 100, 6: 8192}
    assert settings_pairs(Http2ClientConfig(max_header_list_size=0)) == {2: 0}
    full = {
        "initial_window_size": 1,
        "max_frame_size": 20000,
        "header_table_size": 0,
        "enable_connect_protocol": True,
    }
    assert settings_pairs(Http2Config(**full)) == {1: 0, 3: 100, 4: 1, 5: 20000, 6: 8192, 8: 1}
    assert settings_pairs(Http2ClientConfig(**full)) == {1: 0, 2: 0, 4: 1, 5: 20000, 6: 8192, 8: 1}
    assert build_h2c_settings_payload(Http2ClientConfig()).hex() == "000200000000000600002000"


@pytest.mark.parametrize(
    ("alpn", "is_h2"), [("h2", True), ("H2", False), ("h2c", False), ("", False)]
)
def test_alpn_is_exactly_h2(alpn: str, is_h2: bool):
    assert is_h2_alpn(alpn) is is_h2
