"""The wire of ``serve_static``, fed bytes directly: every request answered with the same bytes."""

from __future__ import annotations

import logging

import pytest

from flare.http.proto.h1_leniency import H1LeniencyConfig
from flare.http.server.config import ServerConfig
from flare.http.server.h1_shared import H1Shared
from flare.http.server.static_wire import StaticAnswers, StaticWire
from flare.http.server.wire import BODY, DONE, HEAD, IDLE
from flare.http.static_response import precompute_response
from flare.net import SocketAddr
from flare.runtime.date_cache import DateCache

RESPONSE = precompute_response(200, "text/plain", "Hello!")
KEEP, CLOSE = RESPONSE.keepalive_bytes, RESPONSE.close_bytes
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
GET_CLOSE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HTTP10 = b"GET / HTTP/1.0\r\n\r\n"
HTTP10_KEEP = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


def _shared(config: ServerConfig, date: DateCache | None = None) -> H1Shared:
    def make_plan(head):
        raise AssertionError("a static wire asks nobody who answers")

    return H1Shared(config, make_plan, date)


@pytest.fixture
def answers():
    return StaticAnswers(RESPONSE)


@pytest.fixture
def make(answers):
    def begin(**settings) -> StaticWire:
        config = ServerConfig(**settings)
        peer = SocketAddr.localhost(1)
        return StaticWire(_shared(config, DateCache(lambda: 0.0)), peer, answers)

    return begin


@pytest.fixture
def wire(make):
    return make()


def flush(wire: StaticWire) -> bytes:
    """What a connection would send, and the books it keeps."""
    sent = b"".join(wire.out)
    assert wire.out_bytes == len(sent)
    wire.out.clear()
    wire.out_bytes = 0
    return sent


def exchange(wire: StaticWire, data: bytes) -> bytes:
    wire.receive(data)
    assert wire.next_exchange() is None
    return flush(wire)


def byte_by_byte(wire: StaticWire, data: bytes) -> bytes:
    return b"".join(exchange(wire, data[i : i + 1]) for i in range(len(data)))


class TestAnswers:
    @pytest.mark.parametrize("feed", [exchange, byte_by_byte])
    @pytest.mark.parametrize(
        ("data", "expected", "phase"),
        [
            (GET, KEEP, IDLE),
            (GET_CLOSE, CLOSE, DONE),
            (GET_CLOSE.replace(b"close", b"x, CLOSE"), CLOSE, DONE),
            (HTTP10, CLOSE, DONE),
            (HTTP10_KEEP, KEEP, IDLE),
            (b"HEAD" + GET[3:], RESPONSE.head_bytes(True), IDLE),
            (b"HEAD" + GET_CLOSE[3:], RESPONSE.head_bytes(False), DONE),
            (b"BREW" + GET[3:], KEEP, IDLE),
            (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", KEEP, IDLE),
            (b"GET /any?path HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\n\r\n", KEEP, IDLE),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", KEEP, IDLE),
            (
                b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2;x=y\r\nab\r\n0\r\nX-T: 1\r\n\r\n",
                KEEP,
                IDLE,
            ),
            (b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", CLOSE, DONE),
        ],
    )
    def test_each_request_gets_the_form_it_asked_for(self, wire, feed, data, expected, phase):
        for _ in range(2 if phase == IDLE else 1):
            assert feed(wire, data) == expected
            assert wire.phase == phase
            assert wire.status == 200
            assert wire.sent == (0 if data[:4] == b"HEAD" else 6)
        assert wire.linger == (phase == IDLE)

    def test_requests_in_one_read_are_answered_in_order(self, wire):
        head = b"HEAD" + GET[3:]
        data = GET + head + GET + GET_CLOSE + GET
        assert exchange(wire, data) == KEEP + RESPONSE.head_bytes(True) + KEEP + CLOSE
        assert wire.served == 4
        assert exchange(wire, GET) == b""

    def test_a_body_that_looks_like_a_request_is_none(self, wire):
        post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (2 * len(GET))
        assert exchange(wire, GET) == KEEP
        assert exchange(wire, post) == b""
        assert wire.phase == BODY
        # The very bytes that are known as a whole request.
        assert exchange(wire, GET) == b""
        assert exchange(wire, GET) == KEEP
        assert exchange(wire, GET) == KEEP
        assert wire.served == 3

    def test_a_head_may_come_in_pieces_that_look_like_requests(self, wire):
        assert exchange(wire, GET) == KEEP
        assert exchange(wire, b"GET /2 HTTP/1.1\r\nX: ") == b""
        assert wire.phase == HEAD
        # The very bytes that are known: here they end another head.
        assert exchange(wire, GET) == KEEP
        assert (wire.phase, wire.served) == (IDLE, 2)

    def test_the_blank_line_old_clients_send_is_skipped_but_not_at_first(self, make):
        wire = make()
        assert exchange(wire, GET) == KEEP
        assert exchange(wire, b"\r\n") == b""
        assert wire.phase == IDLE
        assert exchange(wire, GET) == KEEP
        assert exchange(wire, b"\r\n" + GET) == KEEP
        first = make()
        assert exchange(first, b"\r\n" + GET).startswith(b"HTTP/1.1 400 ")

    def test_nothing_is_dispatched(self, wire):
        wire.receive(GET)
        assert wire.next_exchange() is None
        wire.body_sent()
        with pytest.raises(RuntimeError):
            wire.respond(None, None)


class TestWhatIsKnown:
    def test_a_repeated_read_is_known_to_every_wire(self, make, answers):
        one, two = make(), make()
        exchange(one, GET * 3)
        assert answers.known == {GET * 3: 3}
        exchange(two, GET)
        assert exchange(two, GET * 3) == KEEP * 3
        assert two.served == 4

    @pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 33, 36, 37, 100])
    def test_known_reads_of_any_number_of_requests_are_all_answered(self, make, count):
        wire = make()
        exchange(wire, GET)
        for _ in range(3):
            assert exchange(wire, GET * count) == KEEP * count
        assert wire.served == 1 + 3 * count
        assert wire.phase == IDLE

    def test_large_answers_are_not_joined(self):
        response = precompute_response(200, "text/plain", b"x" * 40_000)
        answers = StaticAnswers(response)
        config = ServerConfig()
        wire = StaticWire(_shared(config), SocketAddr.localhost(1), answers)
        for _ in range(2):
            wire.receive(GET * 4)
            assert len(wire.out) == 4
            assert all(piece is response.keepalive_bytes for piece in wire.out)
            assert flush(wire) == response.keepalive_bytes * 4

    @pytest.mark.parametrize(
        "data",
        [
            GET_CLOSE,
            HTTP10,
            b"HEAD" + GET[3:],
            b"GET /?token=1 HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Basic x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nX-Api-Key: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
            GET + GET[:5],
            GET + b"\r\n",
            GET + b"GET / HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\n\r\n",
            b"GET /%s HTTP/1.1\r\nHost: h\r\n\r\n" % (b"a" * 1024),
            b"nonsense\r\n\r\n",
        ],
    )
    def test_what_may_hold_a_secret_or_is_not_plain_is_not_remembered(self, wire, answers, data):
        exchange(wire, data)
        assert not answers.known

    def test_a_read_behind_half_a_request_is_not_remembered(self, wire, answers):
        exchange(wire, GET[:9])
        exchange(wire, GET[9:])
        exchange(wire, b"\r\n")
        assert not answers.known

    def test_what_is_remembered_is_bounded(self, wire, answers):
        for number in range(3000):
            request = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number
            assert exchange(wire, request) == KEEP
            assert len(answers.known) <= 1024
        assert wire.served == 3000


class TestLastAnswers:
    @pytest.mark.parametrize("warm", [False, True])
    @pytest.mark.parametrize("reads", [[GET] * 3, [GET * 3], [GET, GET * 2], [GET * 2, GET]])
    def test_the_request_that_reaches_the_limit_is_told_to_close(self, make, warm, reads):
        if warm:
            for read in reads:
                exchange(make(), read)
        wire = make(max_keepalive_requests=3)
        assert b"".join(exchange(wire, read) for read in reads) == KEEP * 2 + CLOSE
        assert wire.phase == DONE
        assert wire.served == 3

    def test_no_connection_is_kept_where_the_server_keeps_none(self, make):
        exchange(make(), GET)
        wire = make(keep_alive=False)
        assert exchange(wire, GET + GET) == CLOSE
        assert wire.phase == DONE

    def test_draining_makes_the_next_answer_the_last(self, wire):
        exchange(wire, GET)
        wire.drain()
        assert wire.phase == IDLE
        assert exchange(wire, GET) == CLOSE
        assert wire.phase == DONE

    def test_draining_lets_a_request_in_progress_finish(self, wire):
        exchange(wire, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab")
        wire.drain()
        assert exchange(wire, b"c" + GET) == CLOSE


class TestExpect:
    HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"

    def test_leave_is_given_once_and_then_the_answer(self, wire):
        assert exchange(wire, self.HEAD) == CONTINUE
        assert wire.phase == BODY
        assert exchange(wire, b"ab") == b""
        assert exchange(wire, b"c") == KEEP

    def test_no_leave_where_the_body_has_begun_or_the_peer_is_old(self, wire):
        assert exchange(wire, self.HEAD + b"a") == b""
        assert exchange(wire, b"bc") == KEEP
        old = self.HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")
        assert exchange(wire, old) == b""
        assert exchange(wire, b"abc") == CLOSE

    def test_no_leave_for_a_body_that_is_too_large(self, make):
        sent = exchange(make(max_body_size=2), self.HEAD)
        assert sent.startswith(b"HTTP/1.1 413 ")

    def test_another_expectation_is_refused(self, wire):
        sent = exchange(wire, GET[:-2] + b"Expect: tea\r\n\r\n")
        assert sent.startswith(b"HTTP/1.1 417 ")


class TestRefusals:
    @pytest.mark.parametrize("feed", [exchange, byte_by_byte])
    @pytest.mark.parametrize(
        ("data", "status", "settings"),
        [
            (b"nonsense\r\n\r\n", 400, {}),
            (b"GET / HTTP/1.1\r\n\r\n", 400, {}),
            (b"GET / HTTP/1.1\nHost: h\n\n", 400, {}),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, {}),
            (
                b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n",
                400,
                {},
            ),
            (
                b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
                400,
                {},
            ),
            (b"PRI * HTTP/2.0\r\n\r\n", 505, {}),
            (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: x, chunked\r\n\r\n", 501, {}),
            (b"GET /" + b"a" * 200, 414, {"max_uri_length": 100}),
            (b"GET / HTTP/1.1\r\nA: " + b"a" * 200, 431, {"max_header_size": 100}),
            (
                b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n",
                413,
                {"max_body_size": 10},
            ),
            (
                b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nB\r\n",
                413,
                {"max_body_size": 10},
            ),
        ],
    )
    def test_the_guards_of_the_codec_hold(self, make, feed, data, status, settings, caplog):
        wire = make(**settings)
        assert exchange(wire, GET) == KEEP
        with caplog.at_level(logging.INFO, "flare.error"):
            sent = feed(wire, data)
        assert sent.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nConnection: close\r\n" in sent
        assert b"\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n" in sent
        head, _, body = sent.partition(b"\r\n\r\n")
        assert body == head.partition(b"\r\n")[0].removeprefix(b"HTTP/1.1 ")
        assert (wire.phase, wire.status, wire.linger) == (DONE, status, True)
        assert len(caplog.records) == 1
        # Nothing behind an error is read.
        assert exchange(wire, GET) == b""
        assert wire.served == 1

    def test_the_good_requests_before_it_are_answered(self, wire):
        sent = exchange(wire, GET + GET + b"\0" + GET)
        assert sent.startswith(KEEP * 2 + b"HTTP/1.1 400 ")

    @pytest.mark.parametrize(
        ("data", "phase"),
        [(b"GET / HT", HEAD), (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na", BODY)],
    )
    def test_a_late_request_is_answered_408(self, wire, data, phase):
        exchange(wire, data)
        assert wire.phase == phase
        wire.expire()
        assert flush(wire).startswith(b"HTTP/1.1 408 ")
        assert wire.phase == DONE

    def test_leniency_applies(self, make):
        wire = make(h1_leniency=H1LeniencyConfig(allow_lf_only_line_endings=True))
        lf = GET.replace(b"\r\n", b"\n")
        for _ in range(3):
            assert exchange(wire, lf) == KEEP


class TestTheEndOfTheStream:
    def test_between_requests_it_says_nothing(self, wire):
        exchange(wire, GET)
        wire.receive_eof()
        assert wire.next_exchange() is None
        assert flush(wire) == b""
        assert wire.phase == IDLE

    @pytest.mark.parametrize("data", [GET[:7], b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\na"])
    def test_inside_a_request_it_ends_the_connection_without_an_answer(self, wire, data):
        exchange(wire, GET)
        exchange(wire, data)
        wire.receive_eof()
        assert wire.next_exchange() is None
        assert flush(wire) == b""
        assert wire.phase == DONE
