"""Valid messages mean the same to flare and to h11."""

from __future__ import annotations

import pytest
from h1_events import cut_at, read_requests, read_responses
from hypothesis import given
from hypothesis import strategies as st

h11 = pytest.importorskip("h11")

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
OURS = {
    "host", "content-length", "transfer-encoding", "connection", "expect", "upgrade",
    "content-type", "trailer", "proxy-connection", "keep-alive",
}  # fmt: skip

names = st.text(TOKEN, min_size=1, max_size=12).filter(
    lambda name: name.lower() not in OURS and not name.lower().startswith("if-")
)
value_characters = st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f")
values = (
    st.lists(st.text(value_characters, max_size=8), max_size=3)
    .map(" \t".join)
    .map(lambda value: value.strip(" \t"))
)
blanks = st.sampled_from(["", " ", "\t", " \t "])
fields = st.lists(st.tuples(names, blanks, values, blanks), max_size=6)
chunk_lists = st.lists(st.binary(min_size=1, max_size=30), max_size=4)
trailer_names = names.map(lambda name: "X-T" + name)
trailers = st.lists(st.tuples(trailer_names, blanks, values, blanks), max_size=3)
cuts = st.lists(st.integers(0, 10_000), max_size=12)


def lines(items):
    return "".join(
        f"{name}:{before}{value}{after}\r\n" for name, before, value, after in items
    ).encode("latin-1")


@st.composite
def bodies(draw):
    """The framing fields of a body, and the bytes that follow the head."""
    kind = draw(st.sampled_from(["none", "length", "chunked"]))
    chunks = draw(chunk_lists)
    if kind == "none":
        return b"", b""
    if kind == "length":
        body = b"".join(chunks)
        return b"Content-Length: %d\r\n" % len(body), body
    size = draw(st.sampled_from([b"%x", b"%X", b"0%x"]))
    extension = draw(st.sampled_from([b"", b";a", b';a="b c"']))
    data = b"".join(size % len(chunk) + extension + b"\r\n" + chunk + b"\r\n" for chunk in chunks)
    return b"Transfer-Encoding: chunked\r\n", data + b"0\r\n" + lines(draw(trailers)) + b"\r\n"


@st.composite
def requests(draw):
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "X-1"]))
    target = "/" + draw(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=9))
    framing, body = draw(bodies())
    minor = 1 if b"chunked" in framing else draw(st.integers(0, 1))
    extra = lines(draw(fields))
    connection = draw(st.sampled_from([b"", b"Connection: close\r\n", b"Connection: x, y\r\n"]))
    head = f"{method} {target} HTTP/1.{minor}\r\nHost: a.example\r\n".encode()
    return head + extra + framing + connection + b"\r\n" + body


@st.composite
def responses(draw):
    status = draw(st.sampled_from([200, 201, 204, 304, 404, 500]))
    reason = draw(st.sampled_from(["", " OK", " Not Here", " "]))
    framing, body = draw(bodies())
    if status in (204, 304):
        framing, body = b"", b""
    elif not framing:
        framing = b"Content-Length: 0\r\n"
    interim = draw(
        st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 x\r\nA: b\r\n\r\n"])
    )
    head = f"HTTP/1.1 {status}{reason}\r\n".encode()
    return interim + head + lines(draw(fields)) + framing + b"\r\n" + body


def from_h11(connection, data):
    """The message h11 reads, in the form of ``h1_events``."""
    message, body = {}, b""
    connection.receive_data(data)
    while True:
        event = connection.next_event()
        match event:
            case h11.Request():
                message |= {
                    "method": event.method.decode(),
                    "target": event.target.decode(),
                    "version": f"HTTP/{event.http_version.decode()}",
                    "fields": h11_pairs(event.headers),
                }
            case h11.InformationalResponse():
                message.setdefault("interim", []).append(event.status_code)
            case h11.Response():
                message |= {
                    "status": event.status_code,
                    "reason": event.reason.decode("latin-1"),
                    "version": f"HTTP/{event.http_version.decode()}",
                    "fields": h11_pairs(event.headers),
                }
            case h11.Data():
                body += bytes(event.data)
            case h11.EndOfMessage():
                message["body"] = body.decode("latin-1")
                message["trailers"] = h11_pairs(event.headers)
                return message
            case _:
                pytest.fail(f"h11 waits for more: {event}")


def h11_pairs(headers):
    return [
        [name.decode("latin-1"), value.decode("latin-1")] for name, value in headers.raw_items()
    ]


def same(message, theirs):
    theirs.setdefault("interim", [])
    return {key: message.get(key, []) for key in theirs} == theirs


@given(requests(), cuts)
def test_a_valid_request_means_the_same_to_both(data, places):
    connection = h11.Connection(h11.SERVER)
    theirs = from_h11(connection, data)
    found, error = read_requests(cut_at(data, places))
    assert error is None
    (message,) = found
    assert same(message, theirs)
    assert message["keep_alive"] == (connection.their_state is h11.DONE)


@given(responses(), cuts)
def test_a_valid_response_means_the_same_to_both(data, places):
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    theirs = from_h11(connection, data)
    found, error = read_responses(cut_at(data, places))
    assert error is None
    (message,) = found
    assert same(message, theirs)
