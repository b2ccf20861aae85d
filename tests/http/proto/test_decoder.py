"""Messages from a stream of bytes: order, limits, ends, and what a decoder holds."""

from __future__ import annotations

import gc
import traceback
import tracemalloc
import weakref

import pytest
from h1_events import (
    byte_by_byte,
    cut_at,
    read_requests,
    read_responses,
    request_limits,
    response_limits,
)
from hypothesis import given
from hypothesis import strategies as st
from linear_time import takes_linear_time

from flare.http.proto.decoder import MAX_INTERIM, EndOfMessage, RequestDecoder, ResponseDecoder
from flare.http.proto.errors import HttpParseError
from flare.http.proto.h1_leniency import H1LeniencyConfig
from flare.http.proto.heads import H1Limits, RequestHead, ResponseHead

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-T: z\r\n\r\n"
)
STREAM = GET + CHUNKED + POST + b"\r\n" + GET + CHUNKED + CHUNKED + GET


def drain(decoder):
    events = []
    while (event := decoder.next_event()) is not None:
        events.append(event)
    return events


def variant_of(decoder):
    with pytest.raises(HttpParseError) as caught:
        drain(decoder)
    return caught.value.variant_name()


@given(st.lists(st.integers(0, 10_000), max_size=30))
def test_the_cut_of_a_stream_changes_nothing(places):
    whole, error = read_requests([STREAM])
    assert error is None
    assert [message["body"] for message in whole] == [
        "",
        "abcde",
        "hello",
        "",
        "abcde",
        "abcde",
        "",
    ]
    assert read_requests(cut_at(STREAM, places)) == (whole, None)


def test_events_come_one_message_after_another():
    decoder = RequestDecoder()
    assert decoder.next_event() is None
    assert not decoder.in_message
    decoder.receive(POST[:-2])
    assert decoder.in_message
    head, body = drain(decoder)
    assert isinstance(head, RequestHead)
    assert body == b"hel"
    decoder.receive(POST[-2:] + GET + GET[:5])
    body, end, head, end_of_second = drain(decoder)
    assert body == b"lo"
    assert isinstance(end, EndOfMessage)
    assert end.trailers.items == ()
    assert isinstance(head, RequestHead)
    assert isinstance(end_of_second, EndOfMessage)
    assert decoder.buffered == 5
    assert decoder.in_message
    assert decoder.take_rest() == GET[:5]
    assert (decoder.buffered, decoder.in_message) == (0, False)


def test_a_body_piece_that_is_one_read_is_not_copied():
    decoder = RequestDecoder()
    decoder.receive(POST[:-5])
    drain(decoder)
    piece = b"hell"
    decoder.receive(piece)
    assert decoder.next_event() is piece


def test_a_blank_line_between_requests_is_not_a_message():
    decoder = RequestDecoder()
    decoder.receive(GET + b"\r\n")
    assert len(drain(decoder)) == 2
    assert not decoder.in_message
    decoder.receive_eof()
    assert drain(decoder) == []

    decoder = RequestDecoder()
    decoder.receive(GET)
    drain(decoder)
    for piece in (b"\r", b"\n", GET):
        assert not decoder.in_message
        decoder.receive(piece)
    assert decoder.in_message
    assert len(drain(decoder)) == 2


@pytest.mark.parametrize("end", range(1, len(CHUNKED)))
def test_a_request_without_its_end_is_truncated(end):
    decoder = RequestDecoder()
    decoder.receive(CHUNKED[:end])
    drain(decoder)
    assert decoder.in_message
    decoder.receive_eof()
    assert variant_of(decoder) == "TRUNCATED"


def test_an_end_between_requests_is_no_error():
    decoder = RequestDecoder()
    decoder.receive(GET + POST)
    decoder.receive_eof()
    assert len(drain(decoder)) == 5
    assert decoder.next_event() is None


def test_what_came_before_the_end_is_given_before_the_error():
    decoder = RequestDecoder()
    decoder.receive(POST[:-2])
    decoder.receive_eof()
    assert isinstance(decoder.next_event(), RequestHead)
    assert decoder.next_event() == b"hel"
    assert variant_of(decoder) == "TRUNCATED"


def test_nothing_is_read_after_an_error():
    decoder = RequestDecoder()
    decoder.receive(GET + b"GET / HTTP/1.1\r\n\r\n" + GET)
    assert isinstance(decoder.next_event(), RequestHead)
    assert isinstance(decoder.next_event(), EndOfMessage)
    for _ in range(3):
        assert variant_of(decoder) == "BAD_HOST"
        decoder.receive(GET)
    assert decoder.in_message


def test_a_failed_decoder_ends_without_the_garbage_collector():
    decoder = RequestDecoder()
    decoder.receive(b"x\r\n\r\n")
    for _ in range(3):
        try:
            decoder.next_event()
        except HttpParseError as error:
            traced = len(traceback.extract_tb(error.__traceback__))
    assert traced < 8
    gone = weakref.ref(decoder)
    gc.disable()
    try:
        del decoder
        assert gone() is None
    finally:
        gc.enable()


def test_a_declared_body_is_measured_before_it_is_read():
    limits = {"max_body_size": 5}
    assert read_requests([POST], request_limits(**limits))[1] is None
    decoder = RequestDecoder(request_limits(max_body_size=4))
    decoder.receive(POST.partition(b"hello")[0])
    assert variant_of(decoder) == "BODY_TOO_LARGE"
    huge = POST.replace(b": 5", b": 9223372036854775807")
    assert read_requests([huge], request_limits(max_body_size=None))[1] is None
    assert read_requests([huge])[1].status == 413


def test_a_chunked_body_is_measured_as_it_is_announced():
    assert read_requests([CHUNKED], request_limits(max_body_size=5))[1] is None
    for pieces in ([CHUNKED], byte_by_byte(CHUNKED)):
        found, error = read_requests(pieces, request_limits(max_body_size=4))
        assert error.status == 413
        assert found[0]["open"]


def test_fields_and_trailers_have_the_limit_of_their_decoder():
    assert read_requests([CHUNKED], request_limits(max_fields=2))[1] is None
    assert read_requests([CHUNKED], request_limits(max_fields=1))[1].status == 431
    two = CHUNKED.replace(b"X-T: z\r\n", b"X-T: z\r\n" * 3)
    assert read_requests([two], request_limits(max_fields=2))[1].status == 431


def test_forbidden_trailers_are_dropped_from_requests():
    data = CHUNKED.replace(b"X-T: z", b"Content-Length: 9\r\nX-T: z\r\nHOST: b")
    (message,), error = read_requests([data])
    assert error is None
    assert message["trailers"] == [["X-T", "z"]]


@pytest.mark.parametrize(
    ("flags", "leading"),
    [((), b""), (("allow_leading_whitespace_before_request_line",), b" \r\n" * 21 + b"\t")],
)
def test_a_head_may_come_in_any_pieces(flags, leading):
    data = leading + GET
    for place in range(1, len(data)):
        found, error = read_requests([data[:place], data[place:]], request_limits(flags))
        assert error is None
        assert [message["target"] for message in found] == ["/"]


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_response_is_read_only_when_one_is_expected():
    decoder = ResponseDecoder()
    decoder.receive(OK + OK)
    assert decoder.next_event() is None
    decoder.expect("GET")
    assert [type(event) for event in drain(decoder)] == [ResponseHead, bytes, EndOfMessage]
    assert decoder.buffered == len(OK)
    assert decoder.in_message
    decoder.expect("GET")
    assert len(drain(decoder)) == 3
    assert not decoder.in_message


def test_responses_to_head_stay_in_step():
    head = OK.removesuffix(b"ok")
    found, error = read_responses([head + OK + head], ["HEAD", "GET", "HEAD"])
    assert error is None
    assert [message["body"] for message in found] == ["", "ok", ""]


@pytest.mark.parametrize("interim", range(4))
@pytest.mark.parametrize("polite", [True, False])
def test_asking_too_early_never_hides_a_head(interim, polite):
    for place in range(len(CONTINUE)):
        decoder = ResponseDecoder()
        decoder.expect("GET")
        statuses = []
        for piece in (CONTINUE * interim, CONTINUE[:place], CONTINUE[place:], OK):
            if polite or piece:
                decoder.receive(piece)
            while (event := decoder.next_event()) is not None:
                if isinstance(event, ResponseHead):
                    statuses.append(event.status)
        assert statuses == [100] * (interim + 1) + [200]


def test_interim_responses_are_counted_for_each_response():
    decoder = ResponseDecoder()
    for _ in range(2):
        decoder.expect("GET")
        decoder.receive(CONTINUE * MAX_INTERIM + OK)
        assert len(drain(decoder)) == MAX_INTERIM + 3
    decoder.expect("GET")
    decoder.receive(CONTINUE * (MAX_INTERIM + 1))
    assert variant_of(decoder) == "TOO_MANY_INTERIM"


def test_a_101_is_final_and_what_follows_is_not_http():
    decoder = ResponseDecoder()
    decoder.expect("GET")
    decoder.receive(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n\x81\x00")
    head, end = drain(decoder)
    assert (head.status, head.fields.upgrade) == (101, "x")
    assert isinstance(end, EndOfMessage)
    assert decoder.take_rest() == b"\x81\x00"


def test_a_body_until_the_end_of_the_connection():
    decoder = ResponseDecoder()
    decoder.expect("GET")
    decoder.receive(b"HTTP/1.1 200 OK\r\n\r\nab")
    head, body = drain(decoder)
    assert (head.keep_alive, body) == (False, b"ab")
    decoder.receive(b"HTTP/1.1 200 OK\r\n\r\n")
    assert drain(decoder) == [b"HTTP/1.1 200 OK\r\n\r\n"]
    decoder.receive_eof()
    (end,) = drain(decoder)
    assert isinstance(end, EndOfMessage)
    assert not decoder.in_message


@pytest.mark.parametrize("before", [b"", CONTINUE])
def test_a_server_that_goes_before_it_answers_truncates(before):
    found, error = read_responses([before], eof=True)
    assert found == []
    assert error.variant_name() == "TRUNCATED"
    assert "before" in error.detail


def test_responses_have_their_own_limits():
    section = b"A: " + b"b" * (64 * 1024 - 5) + b"\r\n"
    data = b"HTTP/1.1 204 x\r\n" + section + b"\r\n"
    assert read_responses([data])[1] is None
    longer = data.replace(b"A:", b"AA:")
    assert read_responses([longer])[1].variant_name() == "FIELDS_TOO_LARGE"
    assert read_responses([OK], limits=response_limits(max_body_size=2))[1] is None
    assert read_responses([OK], limits=response_limits(max_body_size=1))[1].status == 413
    until = b"HTTP/1.1 200 x\r\n\r\n"
    for pieces in ([until + b"abc"], byte_by_byte(until + b"abc")):
        error = read_responses(pieces, limits=response_limits(max_body_size=2))[1]
        assert error.variant_name() == "BODY_TOO_LARGE"


@pytest.mark.parametrize("name", ["Transfer-Encoding", "content-length", "HOST", "Trailer",
                                  "Authorization", "Set-Cookie", "Cookie"])  # fmt: skip
def test_a_response_with_a_forbidden_trailer_is_refused(name):
    data = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n{}: 1\r\n\r\n"
    error = read_responses([data.format(name).encode()])[1]
    assert error.variant_name() == "BAD_TRAILER"
    found, error = read_responses([data.format("X-Ok").encode()])
    assert error is None
    assert found[0]["trailers"] == [["X", "y"], ["X-Ok", "1"]]


ANY_SIZE = H1LeniencyConfig(allow_oversized_request_uri=True, allow_oversized_header_list=True)
ANY_SIZE_LF = H1LeniencyConfig(allow_oversized_header_list=True, allow_lf_only_line_endings=True)


@pytest.mark.parametrize(
    ("pieces", "size", "leniency"),
    [
        (lambda n: byte_by_byte(b"GET /" + b"x" * n + GET[5:]), 4000, ANY_SIZE),
        (lambda n: byte_by_byte(GET[:-2] + b"A: b\r\n" * n), 1500, ANY_SIZE),
        (lambda n: byte_by_byte(GET[:-2] + b"A: b\n" * n), 1500, ANY_SIZE_LF),
        (lambda n: [GET * n], 400, None),
        (lambda n: [CHUNKED * n], 200, None),
        (lambda n: [(GET + b"\r\n") * n], 400, None),
        (lambda n: byte_by_byte(POST * n), 50, None),
        (lambda n: byte_by_byte(POST[:-5].replace(b"5", b"%d" % n) + b"x" * n), 5000, None),
        (lambda n: [POST] * n, 300, None),
    ],
    ids=["target-by-bytes", "fields-by-bytes", "lf-fields-by-bytes", "pipelined",
         "pipelined-chunked", "pipelined-blank-lines", "requests-by-bytes", "body-by-bytes",
         "requests"],
)  # fmt: skip
def test_requests_are_decoded_in_linear_time(pieces, size, leniency):
    limits = request_limits()
    if leniency is not None:
        limits.h1_leniency = leniency

    def prepare(n):
        given = list(pieces(n))

        def work():
            decoder = RequestDecoder(limits)
            for piece in given:
                decoder.receive(piece)
                drain(decoder)

        return work

    assert takes_linear_time(prepare, size)


def test_a_response_trickling_in_takes_linear_time():
    def prepare(n):
        start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
        data = start + b"A: b\r\n" * n + b"\r\n1\r\nx\r\n0\r\n" + b"B: c\r\n" * n + b"\r\n"

        def work():
            limits = response_limits(max_header_size=1 << 24, max_fields=1 << 24)
            found, error = read_responses(byte_by_byte(data), limits=limits)
            assert error is None
            assert len(found[0]["trailers"]) == n

        return work

    assert takes_linear_time(prepare, 700)


def test_a_body_that_is_given_on_is_not_held():
    decoder = RequestDecoder(H1Limits(max_body_size=None))
    decoder.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    drain(decoder)
    piece = b"1\r\nx\r\n" * 500
    decoder.receive(piece)
    drain(decoder)
    tracemalloc.start()
    try:
        for _ in range(20):
            decoder.receive(piece)
            assert drain(decoder) == [b"x" * 500]
        current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert current < 4096
    assert peak < 32 * 1024
