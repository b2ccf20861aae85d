from __future__ import annotations

from http import HTTPStatus

import pytest

from flare.errors import ValidationError
from flare.http.proto.decoder import ResponseDecoder
from flare.http.proto.headers import HeaderInjectionError
from flare.http.static_response import StaticResponse, precompute_response


def test_the_two_forms_differ_in_one_line():
    resp = precompute_response(status=200, content_type="text/plain; charset=utf-8", body="Hi ü")
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n"
        b"Connection: %s\r\n\r\n"
    )
    assert resp.keepalive_bytes == head % b"keep-alive" + "Hi ü".encode()
    assert resp.close_bytes == head % b"close" + "Hi ü".encode()
    assert resp.body_length == 5
    assert resp.status == 200
    assert resp.head_bytes(True) == head % b"keep-alive"
    assert resp.head_bytes(False) == head % b"close"


@pytest.mark.parametrize(
    "body", [b"a\r\n\r\nb", bytearray(b"a\r\n\r\nb"), memoryview(b"a\r\n\r\nb")]
)
def test_a_body_of_any_bytes_is_taken_as_it_is(body):
    resp = precompute_response(404, "application/octet-stream", body)
    assert resp.keepalive_bytes.endswith(b"\r\n\r\na\r\n\r\nb")
    assert resp.head_bytes(False) + b"a\r\n\r\nb" == resp.close_bytes
    assert b"HTTP/1.1 404 Not Found\r\n" in resp.close_bytes


def test_an_empty_body_has_its_length_and_its_head_is_everything():
    resp = precompute_response(200, "text/plain", "")
    assert b"Content-Length: 0\r\n" in resp.keepalive_bytes
    assert resp.head_bytes(True) == resp.keepalive_bytes


@pytest.mark.parametrize(
    ("status", "length_line"), [(204, b""), (304, b""), (205, b"Content-Length: 0\r\n")]
)
def test_a_status_without_content_gets_none(status, length_line):
    resp = precompute_response(status, "text/plain", "left out")
    assert resp.body_length == 0
    assert resp.keepalive_bytes.endswith(b"\r\n\r\n")
    assert b"left out" not in resp.keepalive_bytes + resp.close_bytes
    assert (b"Content-Length" in resp.keepalive_bytes) == bool(length_line)
    assert length_line in resp.keepalive_bytes


@pytest.mark.parametrize("status", [200, 201, 204, 206, 301, 304, 404, 418, 503, 599])
def test_a_client_reads_each_form_as_one_whole_response(status):
    resp = precompute_response(status, "text/plain", b"abc")
    for wire, keep_alive in ((resp.keepalive_bytes, True), (resp.close_bytes, False)):
        decoder = ResponseDecoder()
        decoder.expect("GET")
        decoder.receive(wire)
        head = decoder.next_event()
        assert (head.status, head.keep_alive) == (status, keep_alive)
        while decoder.in_message and decoder.next_event() is not None:
            pass
        assert not decoder.buffered


def test_an_empty_content_type_is_left_out():
    assert b"Content-Type" not in precompute_response(200, "", b"x").keepalive_bytes


@pytest.mark.parametrize("status", [100, 103, 199, 0, -200, 1000, True, "200", None])
def test_a_status_that_answers_nothing_is_refused(status):
    with pytest.raises(ValidationError) as caught:
        precompute_response(status, "text/plain", "")
    assert caught.value.field == "status"


def test_a_status_may_be_of_the_standard_library():
    resp = precompute_response(HTTPStatus.CREATED, "text/plain", "")
    assert resp.close_bytes.startswith(b"HTTP/1.1 201 Created\r\n")


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\n", "a\rb", "a\0", "a\x7f", "snow ☃"])
def test_a_content_type_cannot_split_the_response(value):
    with pytest.raises(HeaderInjectionError):
        precompute_response(200, value, "")


def test_bytes_that_are_no_such_response_are_refused():
    good = precompute_response(200, "text/plain", "abc")
    assert StaticResponse(good.keepalive_bytes, good.close_bytes, 3) == good
    for keep, close, length, field in (
        (b"HTTP/1.0 200 OK\r\n\r\nabc", good.close_bytes, 3, "keepalive_bytes"),
        (b"HTTP/1.1 2x0 OK\r\n\r\nabc", good.close_bytes, 3, "keepalive_bytes"),
        (good.keepalive_bytes, good.close_bytes + b"d", 3, "close_bytes"),
        (good.keepalive_bytes, good.close_bytes, 2, "keepalive_bytes"),
        (good.keepalive_bytes, good.close_bytes, -1, "body_length"),
        (good.keepalive_bytes, bytearray(good.close_bytes), 3, "close_bytes"),
    ):
        with pytest.raises(ValidationError) as caught:
            StaticResponse(keep, close, length)
        assert caught.value.field == field


def test_it_is_a_value():
    one, two = (precompute_response(200, "text/plain", "abc") for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert repr(one) == "<StaticResponse 200, 3 bytes of body>"
    with pytest.raises(AttributeError):
        one.body_length = 1
