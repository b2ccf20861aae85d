from __future__ import annotations

import pickle

import pytest

from flare.http.proto.decoder import RequestDecoder
from flare.http.proto.errors import HttpParseError
from flare.http.proto.fields import FieldBlock
from flare.http.proto.heads import H1Limits, RequestHead, parse_h1_request_head
from flare.http.request_view import RequestView, parse_request_view
from flare.net import SocketAddr

PEER = SocketAddr.parse("192.0.2.1:5")
POST = (
    b"POST /a/b?c=d HTTP/1.1\r\nHost: h\r\nX-Two: 1\r\nContent-Length: 5\r\nx-two: 2 \r\n\r\nhello"
)


def head_of(data: bytes) -> RequestHead:
    found = parse_h1_request_head(data, H1Limits())
    assert found is not None
    return found[0]


def error_of(data, **limits):
    with pytest.raises(HttpParseError) as caught:
        parse_request_view(data, **limits)
    return caught.value.variant_name(), caught.value.status


class TestReading:
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_a_request_is_read_from_any_buffer(self, kind):
        view = parse_request_view(kind(POST), peer=PEER, expose_errors=True)
        assert (view.method, view.version, view.url()) == ("POST", "HTTP/1.1", "/a/b?c=d")
        assert (view.peer, view.expose_errors) == (PEER, True)
        assert view.body() == b"hello"
        assert view.header("X-TWO") == "1"
        assert view.header("absent") == ""
        assert view.header("x-twö") == ""
        assert list(view.headers()) == [
            ("Host", "h"),
            ("X-Two", "1"),
            ("Content-Length", "5"),
            ("x-two", "2"),
        ]
        assert view.headers().get_all("x-two") == ["1", "2"]

    def test_the_body_and_the_header_lines_are_not_copied(self):
        data = bytearray(POST)
        view = parse_request_view(data)
        body, headers = view.body(), view.headers()
        data[-5:] = b"HELLO"
        data[data.index(b"Host: h") + 6 : data.index(b"Host: h") + 7] = b"i"
        assert body == b"HELLO"
        assert headers.get("host") == "i"

    def test_the_body_is_read_only_and_always_the_same_view(self):
        view = parse_request_view(bytearray(POST))
        assert view.body() is view.body()
        assert view.body().readonly
        assert view.headers() is view.headers()

    def test_a_short_body_is_what_there_is_and_a_long_one_ends_at_its_length(self):
        assert parse_request_view(POST[:-2]).body() == b"hel"
        assert parse_request_view(POST + b"GET / HTTP/1.1\r\n").body() == b"hello"
        assert parse_request_view(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nnext").body() == b""

    def test_a_chunked_body_is_decoded_with_its_trailers(self):
        view = parse_request_view(
            b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nab\r\n1\r\nc\r\n0\r\nX-Sum: 6\r\nHost: evil\r\n\r\nrest"
        )
        assert view.body() == b"abc"
        assert view.into_owned().trailers.items() == [("X-Sum", "6")]

    def test_an_absolute_target_names_the_host(self):
        view = parse_request_view(b"GET http://real/x?y HTTP/1.1\r\nHost: other\r\nA: b\r\n\r\n")
        assert view.url() == "/x?y"
        assert list(view.headers()) == [("Host", "real"), ("A", "b")]
        assert view.header("host") == "real"

    def test_nothing_but_the_parser_and_the_server_makes_one(self):
        with pytest.raises(TypeError, match="parse_request_view"):
            RequestView()

    def test_repr_shows_neither_query_nor_body(self):
        view = parse_request_view(POST)
        assert repr(view) == "<RequestView POST /a/b>"
        view.release()
        assert repr(view) == "<RequestView POST released>"


class TestGrammar:
    @pytest.mark.parametrize(
        "data",
        [
            b"GET /x HTTP/1.1\nHost: h\nA: b\n\nrest",
            b"GET /x HTTP/1.1\r\nHost: h\nA: b\r\n\nrest",
            b"GET /x\r\nHost: h\r\nA: b\r\n\r\n",
            b"GET /x\nHost: h\nA: b\n\n",
        ],
    )
    def test_a_bare_lf_and_a_missing_version_are_tolerated(self, data):
        view = parse_request_view(data)
        assert (view.method, view.url(), view.version) == ("GET", "/x", "HTTP/1.1")
        assert list(view.headers()) == [("Host", "h"), ("A", "b")]

    def test_a_missing_version_is_missing_nowhere_else(self):
        decoder = RequestDecoder()
        decoder.receive(b"GET /x\r\nHost: h\r\n\r\n")
        with pytest.raises(HttpParseError):
            decoder.next_event()
        assert error_of(b"GET /x\r\n\r\n") == ("BAD_HOST", 400)
        assert error_of(b"GET HTTP/1.1\r\nHost: h\r\n\r\n") == ("BAD_TARGET", 400)
        assert error_of(b"GET\r\nHost: h\r\n\r\n") == ("BAD_REQUEST_LINE", 400)
        assert error_of(b"GET \r\nHost: h\r\n\r\n")[1] == 400

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (b"get / HTTP/1.1\r\nHost: h", ("BAD_METHOD", 400)),
            (b"GET  / HTTP/1.1\r\nHost: h", ("BAD_REQUEST_LINE", 400)),
            (b"GET / HTTP/1.1 \r\nHost: h", ("BAD_REQUEST_LINE", 400)),
            (b"GET / HTTP/2.0\r\nHost: h", ("UNSUPPORTED_VERSION", 505)),
            (b"GET / HTTP/1.x\r\nHost: h", ("BAD_VERSION", 400)),
            (b"GET /\x80 HTTP/1.1\r\nHost: h", ("BAD_TARGET", 400)),
            (b"GET x HTTP/1.1\r\nHost: h", ("BAD_TARGET", 400)),
            (b"GET / HTTP/1.1", ("BAD_HOST", 400)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a", ("BAD_HOST", 400)),
            (b"GET / HTTP/1.1\r\nHost: a/b", ("BAD_HOST", 400)),
            (b"GET / HTTP/1.1\r\nHost : h", ("BAD_FIELD_LINE", 400)),
            (b"GET / HTTP/1.1\r\nHost: h\r\n folded", ("BAD_FIELD_LINE", 400)),
            (b"GET / HTTP/1.1\r\nHost: h\r\nno colon", ("BAD_FIELD_LINE", 400)),
            (b"GET / HTTP/1.1\r\nHost: h\rX: y", ("BAD_LINE_END", 400)),
            (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\0", ("BAD_FIELD_VALUE", 400)),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1", ("BAD_CONTENT_LENGTH", 400)),
            (
                b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1",
                ("BAD_CONTENT_LENGTH", 400),
            ),
            (
                b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
                ("BAD_TRANSFER_ENCODING", 400),
            ),
            (
                b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked",
                ("UNSUPPORTED_TRANSFER_CODING", 501),
            ),
            (
                b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: x",
                ("UNKNOWN_EXPECTATION", 417),
            ),
            (b"\r\nGET / HTTP/1.1\r\nHost: h", ("BAD_REQUEST_LINE", 400)),
        ],
    )
    def test_nothing_else_is(self, lines, expected):
        assert error_of(lines + b"\r\n\r\n") == expected
        assert error_of(lines.replace(b"\r\n", b"\n") + b"\n\n") == expected or lines[:2] == b"\r\n"

    def test_a_bad_chunk_is_refused(self):
        head = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert error_of(head + b"x\r\n") == ("BAD_CHUNK", 400)
        assert error_of(head + b"1\na\n0\n\n") == ("BAD_CHUNK", 400)

    @pytest.mark.parametrize("data", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: h\r\n"])
    def test_a_head_without_an_end_is_truncated(self, data):
        assert error_of(data) == ("TRUNCATED", 400)


class TestLimits:
    def test_the_target(self):
        request = b"GET /%s HTTP/1.1\r\nHost: h\r\n\r\n"
        parse_request_view(request % (b"a" * 9), max_uri_length=10)
        assert error_of(request % (b"a" * 10), max_uri_length=10) == ("URI_TOO_LONG", 414)
        assert error_of(b"GET /" + b"a" * 9000)[1] == 414
        assert error_of(b"GET /" + b"a" * 100_000)[1] == 414

    def test_the_field_lines(self):
        request = b"GET / HTTP/1.1\r\nHost: h\r\nA: %s\r\n\r\n"
        room = 50 - len(b"Host: h\r\nA: \r\n")
        parse_request_view(request % (b"a" * room), max_header_size=50)
        assert error_of(request % (b"a" * (room + 1)), max_header_size=50)[1] == 431
        assert error_of(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 50_000)[1] == 431
        assert error_of(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: b\r\n" * 100 + b"\r\n")[1] == 431

    def test_the_body(self):
        assert parse_request_view(POST, max_body_size=5).body() == b"hello"
        assert error_of(POST, max_body_size=4) == ("BODY_TOO_LARGE", 413)
        chunked = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello"
        assert parse_request_view(chunked, max_body_size=5).body() == b"hello"
        assert error_of(chunked, max_body_size=4) == ("BODY_TOO_LARGE", 413)


class TestOwnership:
    def test_the_owned_request_is_the_same_and_keeps_nothing_borrowed(self):
        data = bytearray(POST)
        view = parse_request_view(data, peer=PEER, expose_errors=True)
        request = view.into_owned()
        assert request is not view.into_owned()
        view.release()
        data[:] = bytes(len(data))
        assert (request.method, request.url, request.version) == ("POST", "/a/b?c=d", "HTTP/1.1")
        assert request.body == b"hello"
        assert type(request.body) is bytes
        assert request.headers.get_all("x-two") == ["1", "2"]
        assert (request.peer, request.expose_errors) == (PEER, True)

    def test_a_released_view_refuses_every_use(self):
        view = parse_request_view(POST)
        body, headers = view.body(), view.headers()
        view.release()
        view.release()
        for use in (
            view.url,
            view.body,
            view.headers,
            view.into_owned,
            lambda: view.header("host"),
            lambda: headers.get("host"),
            lambda: list(headers),
            lambda: bytes(body),
        ):
            with pytest.raises(ValueError, match="released"):
                use()
        assert view.method == "POST"

    def test_a_released_view_lets_go_of_the_buffer(self):
        data = bytearray(POST)
        view = parse_request_view(data)
        view.body(), view.headers(), view.into_owned()
        with pytest.raises(BufferError):
            data.clear()
        view.release()
        data.clear()

    def test_another_reader_of_the_body_does_not_hinder_the_release(self):
        view = parse_request_view(POST)
        with_export = pickle.PickleBuffer(view.body())
        view.release()
        with pytest.raises(ValueError, match="released"):
            view.body()
        assert bytes(with_export) == b"hello"
        with_export.release()


class TestFromAHead:
    def view(self, data=POST, body=b"hello", **more):
        return RequestView._from_head(head_of(data), body, PEER, False, **more)

    def test_the_server_makes_one_of_a_decoded_head(self):
        view = self.view()
        assert view.url() == "/a/b?c=d"
        assert view.body() == b"hello"
        assert list(view.headers()) == view.into_owned().headers.items()
        assert view.header("x-two") == "1"

    def test_a_growing_body_can_be_lent(self):
        body = bytearray(b"hello")
        view = self.view(body=body)
        assert view.body().readonly
        assert view.into_owned().body == b"hello"
        view.release()
        body += b"!"

    def test_trailers_and_tls_go_with_the_owned_request(self):
        tls = object()
        view = self.view(trailers=FieldBlock((("x", "X", "1"),)), tls_info=tls)
        assert view.into_owned().trailers.items() == [("X", "1")]
        assert view.into_owned().tls_info is tls

    def test_bytes_are_not_copied_for_the_owned_request(self):
        body = b"x" * 1000
        assert self.view(body=body).into_owned().body is body

    def test_headers_are_released_too(self):
        view = self.view()
        headers = view.headers()
        view.release()
        with pytest.raises(ValueError, match="released"):
            headers.get("host")
