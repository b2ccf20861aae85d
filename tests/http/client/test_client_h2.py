"""HTTP/2 by the client, against servers that say exactly which frames come when."""

from __future__ import annotations

import gc
import os
import pickle
import socket
import threading
import time
import warnings

import pytest
from scripted import wait_for_input
from scripted_h2 import H2Peer, Reply, Wire, data, handling, head

from flare.errors import NetworkError
from flare.http import HttpClient, Request
from flare.http.client import TcpTransport, h2_connection
from flare.http.client.timeouts import Clock, Timeouts
from flare.http.errors import HttpProtocolError
from flare.http2 import (
    Http2Error,
    Http2ErrorCode,
    build_goaway,
    build_ping,
    build_rst,
    build_settings,
    build_window_update,
)

MAX_STREAMS, WINDOW = 3, 4
LIMIT = 10.0


def client_of(peer: H2Peer, **settings) -> HttpClient:
    settings.setdefault("timeout_ms", 10_000)
    return HttpClient(peer.base, prefer_h2c=True, **settings)


def until(condition) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def together(*works) -> None:
    """Do all of this at once; the first failure is raised."""
    failures: list[BaseException] = []

    def run(work) -> None:
        try:
            work()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def test_a_call():
    def script(wire: Wire) -> None:
        wire.begin()
        sid, fields = wire.request()
        assert fields == {
            ":method": "GET",
            ":scheme": "http",
            ":authority": f"localhost:{peer.port}",
            ":path": "/a?b=c",
            "user-agent": fields["user-agent"],
            "accept": "*/*",
            "accept-encoding": fields["accept-encoding"],
            "x-one": "1",
        }
        wire.send(
            head(sid, [(":status", "103"), ("link", "</x>")], end=False),
            head(sid, [(":status", "200"), ("x", "1"), ("x", "2")], end=False),
            data(sid, b"he"),
            data(sid, b"llo"),
            head(sid, [("checksum", "abc")], end=True),
        )
        wire.rest()

    with H2Peer(script) as peer, client_of(peer) as client:
        got = client.get("/a?b=c", headers={"X-One": "1", "Keep-Alive": "5"})
        assert (got.status, got.reason, got.version, got.body) == (200, "OK", "HTTP/2", b"hello")
        assert got.headers.get_all("x") == ["1", "2"]
        assert got.trailers.get("checksum") == "abc"
        assert got.request.version == "HTTP/2"
        assert (client.idle_count(), repr(client._pool)) == (
            1,
            "<ConnectionPool active=0 idle=1 waiting=0>",
        )
    assert ("GOAWAY", 0, 0, bytes(8)) in peer.wires[0].frames


def test_a_status_past_599_is_read():
    with H2Peer(handling(lambda request: Reply(999))) as peer, client_of(peer) as client:
        got = client.get("/")
        assert (got.status, got.is_server_error()) == (999, True)


@pytest.mark.parametrize("size", [0, 1, 16384, 70_000, 3_000_000])
def test_bodies_both_ways(size):
    body = os.urandom(size)
    with (
        H2Peer(handling(lambda request: Reply(body=request.body))) as peer,
        client_of(peer) as client,
    ):
        assert client.post("/", body).body == body
        pieces = (body[start : start + 50_000] for start in range(0, size, 50_000))
        assert client.post("/", pieces).body == body


def test_bodies_that_are_none():
    with (
        H2Peer(handling(lambda request: Reply(204 if request.method == "PUT" else 200))) as peer,
        client_of(peer) as client,
    ):
        assert client.put("/").status == 204
        assert client.head("/").body == b""
        assert client.post("/").body == b""


def test_forty_threads_share_one_connection():
    with H2Peer(handling()) as peer, client_of(peer, timeout_ms=60_000) as client:

        def work(number: int) -> None:
            for turn in range(50):
                path = f"/{number}/{turn}"
                assert client.get(path).text() == path

        together(*(lambda number=number: work(number) for number in range(40)))
        assert peer.connections == 1
        assert client._pool.counts() == (0, 1, 0)


def test_threads_with_bodies_both_ways_at_once():
    with (
        H2Peer(handling(lambda request: Reply(body=request.body))) as peer,
        client_of(peer, timeout_ms=60_000) as client,
    ):

        def work(number: int) -> None:
            for turn in range(4):
                body = bytes([number]) * (turn * 150_000 + 1)
                assert client.post("/", body).body == body

        together(*(lambda number=number: work(number) for number in range(12)))
        assert peer.connections == 1


def test_the_servers_limit_of_streams_is_waited_for():
    def script(wire: Wire) -> None:
        wire.begin({MAX_STREAMS: 2})
        wire.answer(wire.request()[0])
        for _ in range(5):
            two = [wire.request()[0], wire.request()[0]]
            wire.sock.settimeout(0.02)
            with pytest.raises(TimeoutError):
                wire.next("HEADERS")  # a third one
            wire.sock.settimeout(LIMIT)
            for sid in two:
                wire.answer(sid, b"x")
        wire.rest()

    with H2Peer(script) as peer, client_of(peer) as client:
        assert client.get("/").ok

        def call() -> None:
            assert client.get("/").body == b"x"

        together(*[call] * 10)
        assert peer.connections == 1


def test_a_call_waits_for_a_stream_no_longer_than_for_a_connection():
    done = threading.Event()

    def script(wire: Wire) -> None:
        wire.begin({MAX_STREAMS: 1})
        wire.answer(wire.request()[0], b"first")
        sid, _ = wire.request()
        wire.send(head(sid, [(":status", "200")], end=False))
        done.wait(LIMIT)
        wire.send(data(sid, b"late", end=True))
        wire.rest()

    with H2Peer(script) as peer, client_of(peer, pool_timeout_ms=100) as client:
        assert client.get("/").body == b"first"
        with client.get_streaming("/") as download:
            with pytest.raises(TimeoutError, match="no connection became free") as caught:
                client.get("/")
            assert caught.value.phase == "pool"
            done.set()
            assert download.read_all() == b"late"
        assert client._pool.counts() == (0, 1, 0)


def test_a_request_the_server_has_not_looked_at_is_sent_again():
    def leaving(wire: Wire) -> None:
        wire.begin()
        wire.request()
        wire.send(build_goaway(0, 0))
        wire.rest()

    with (
        H2Peer(leaving, handling(lambda request: Reply(body=request.body))) as peer,
        client_of(peer) as client,
    ):
        assert client.post("/", b"once").body == b"once"
        assert peer.connections == 2


def test_streams_below_the_goaway_are_answered_still():
    def leaving(wire: Wire) -> None:
        wire.begin()
        sid, _ = wire.request()
        wire.send(build_goaway(sid, 0))
        wire.answer(sid, b"answered")
        wire.rest()

    with H2Peer(leaving, handling()) as peer, client_of(peer) as client:
        assert client.get("/").body == b"answered"
        assert client.idle_count() == 0
        assert client.post("/again").body == b"/again"
        assert peer.connections == 2


def test_a_refused_stream_is_sent_again():
    def refusing(wire: Wire) -> None:
        wire.begin()
        for _ in range(2):
            wire.send(build_rst(wire.request()[0], Http2ErrorCode.REFUSED_STREAM))
        wire.answer(wire.request()[0], b"at last")
        wire.rest()

    with H2Peer(refusing) as peer, client_of(peer) as client:
        assert client.post("/", b"body").body == b"at last"
        assert peer.connections == 1


def test_refusing_for_ever_is_an_error():
    def refusing(wire: Wire) -> None:
        wire.begin()
        while True:
            wire.send(build_rst(wire.request()[0], Http2ErrorCode.REFUSED_STREAM))

    with H2Peer(refusing) as peer, client_of(peer) as client:
        with pytest.raises(Http2Error, match="REFUSED_STREAM") as caught:
            client.get("/")
        assert caught.value.code == Http2ErrorCode.REFUSED_STREAM
        assert len([f for f in peer.wires[0].frames if f[0] == "HEADERS"]) == 4
        assert client._pool.counts() == (0, 1, 0)


def test_a_server_that_wants_http_1_1_gets_it():
    def h2(wire: Wire) -> None:
        wire.begin()
        wire.send(build_rst(wire.request()[0], Http2ErrorCode.HTTP_1_1_REQUIRED))
        wire.rest()

    def h1(wire: Wire) -> None:
        assert b"POST / HTTP/1.1\r\n" in wire.sock.recv(65536)
        wire.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh1")
        wire.sock.recv(1)

    with H2Peer(h2, h1) as peer, client_of(peer) as client:
        got = client.post("/", b"x")
        assert (got.version, got.body) == ("HTTP/1.1", b"h1")


def test_a_reset_is_told_by_its_code():
    def script(wire: Wire) -> None:
        wire.begin()
        wire.send(build_rst(wire.request()[0], Http2ErrorCode.INTERNAL_ERROR))
        sid, _ = wire.request()
        wire.send(head(sid, [(":status", "200")], end=False), data(sid, b"part"))
        wire.send(build_rst(sid, Http2ErrorCode.CANCEL))
        wire.answer(wire.request()[0], b"fine")
        wire.rest()

    with H2Peer(script) as peer, client_of(peer) as client:
        for code in (Http2ErrorCode.INTERNAL_ERROR, Http2ErrorCode.CANCEL):
            with pytest.raises(Http2Error, match=f"localhost:{peer.port}") as caught:
                client.get("/")
            assert pickle.loads(pickle.dumps(caught.value)).code == code
        assert client.get("/").body == b"fine"  # the connection is as good as before
        assert peer.connections == 1


def test_no_more_of_a_request_wanted_is_no_failure():
    def script(wire: Wire) -> None:
        wire.begin()
        sid, _ = wire.request()
        wire.answer(sid, b"enough")
        wire.send(build_rst(sid, Http2ErrorCode.NO_ERROR))
        wire.rest()

    def endless():
        while True:
            yield b"x" * 10_000

    with H2Peer(script) as peer, client_of(peer) as client:
        assert client.post("/", endless()).body == b"enough"


def test_an_error_ends_an_upload():
    def script(wire: Wire) -> None:
        wire.begin()
        sid, _ = wire.request()
        wire.next("DATA")
        wire.answer(sid, b"too much", "413")
        assert wire.next("RST_STREAM")[2] == sid
        wire.answer(wire.request()[0], b"next")
        wire.rest()

    def endless():
        while True:
            yield b"x" * 10_000

    with H2Peer(script) as peer, client_of(peer) as client:
        got = client.post("/", endless())
        assert (got.status, got.body) == (413, b"too much")
        assert client.get("/").body == b"next"
        assert peer.connections == 1


def test_a_body_that_breaks_off_resets_its_stream_alone():
    def script(wire: Wire) -> None:
        wire.begin()
        sid, _ = wire.request()
        assert wire.next("RST_STREAM")[2:] == (sid, (8).to_bytes(4, "big"))
        wire.answer(wire.request()[0], b"next")
        wire.rest()

    def broken():
        yield b"x" * 100_000
        raise RuntimeError("no more")

    with H2Peer(script) as peer, client_of(peer) as client:
        with pytest.raises(RuntimeError, match="no more"):
            client.post("/", broken())
        assert client.get("/").body == b"next"
        assert client._pool.counts() == (0, 1, 0)


def test_a_slow_body_goes_out_piece_by_piece():
    arrived = threading.Event()

    def script(wire: Wire) -> None:
        wire.begin()
        sid, _ = wire.request()
        assert wire.next("DATA")[3] == b"one"
        arrived.set()
        wire.answer(sid, b"one" + wire.body(sid))
        wire.rest()

    def pieces():
        yield b"one"
        assert arrived.wait(LIMIT)
        yield b"two"

    with H2Peer(script) as peer, client_of(peer) as client:
        assert client.post("/", pieces()).body == b"onetwo"


def test_the_windows_of_the_server_are_kept_to():
    def script(wire: Wire) -> None:
        wire.begin({WINDOW: 10})
        wire.next("SETTINGS")
        wire.answer(wire.request()[0])
        sid, _ = wire.request()
        got = b""
        while len(got) < 25:
            _, _, _, payload = wire.next("DATA")
            assert len(payload) <= 10
            got += payload
            wire.send(build_window_update(sid, len(payload)))
        wire.answer(sid, got)
        wire.rest()

    with H2Peer(script) as peer, client_of(peer) as client:
        client.get("/")
        assert client.post("/", b"0123456789abcdefghijklmno").body == b"0123456789abcdefghijklmno"


def test_a_server_that_never_opens_its_window_runs_into_the_write_timeout():
    def script(wire: Wire) -> None:
        wire.begin({WINDOW: 0})
        wire.answer(wire.request()[0])
        sid, _ = wire.request()
        assert wire.next("RST_STREAM")[2] == sid
        wire.rest()

    with H2Peer(script) as peer, client_of(peer, write_timeout_ms=100) as client:
        client.get("/")
        with pytest.raises(TimeoutError) as caught:
            client.post("/", b"x")
        assert caught.value.phase == "write"
        assert client._pool.counts() == (0, 1, 0)


def test_who_reads_nothing_does_not_hold_up_the_others():
    big = bytes(2_000_000)
    with H2Peer(handling(lambda request: Reply(body=big))) as peer, client_of(peer) as client:
        with client.get_streaming("/") as held:
            assert client.get("/").body == big
            assert held.read_all() == big
        assert peer.connections == 1


class Narrow:
    """A transport whose connections hold little of what comes."""

    def connect(self, host, port, deadline):
        stream = TcpTransport().connect(host, port, deadline)
        stream._raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        return stream


def test_a_server_that_writes_before_it_reads_on():
    """Both sides would wait for each other, did a sender not read."""
    size = 16_000_000

    def script(wire: Wire) -> None:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        wire.begin({WINDOW: 2**31 - 1})
        wire.send(build_window_update(0, 2**31 - 1 - 65535))
        wire.next("SETTINGS")
        wire.answer(wire.request()[0])
        sid, _ = wire.request()
        wire.next("DATA")
        # As much as the client's window lets through, and it takes nothing meanwhile.
        wire.send(head(sid, [(":status", "200")], end=False), *[data(sid, bytes(16384))] * 15)
        while not wire.next("DATA")[1]:
            pass
        wire.send(data(sid, b"", end=True))
        wire.rest()

    with H2Peer(script) as peer, client_of(peer, transport=Narrow()) as client:
        client.get("/")
        assert len(client.post("/", bytes(size)).body) == 15 * 16384


class Short:
    """A transport whose connections send little at once."""

    def connect(self, host, port, deadline):
        stream = TcpTransport().connect(host, port, deadline)
        stream._raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 150_000)
        return stream


def test_who_sends_for_all_wakes_those_whose_bodies_went_along():
    """With windows this wide nothing comes from the server that would wake them."""
    asked = threading.Event()
    uploads = 6

    def script(wire: Wire) -> None:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 150_000)
        wire.begin({WINDOW: 2**31 - 1})
        wire.send(build_window_update(0, 2**31 - 1 - 65535))
        whole = [wire.request()[0]]
        asked.set()
        while len(whole) <= uploads:
            kind, flags, sid, payload = wire.next("DATA", "HEADERS")
            if kind == "HEADERS":
                wire.decoder.decode(payload)
            elif flags & 1:
                whole.append(sid)
        for sid in whole:
            wire.answer(sid, b"done")
        wire.rest()

    with H2Peer(script) as peer, client_of(peer, timeout_ms=40_000, transport=Short()) as client:

        def wait() -> None:
            assert client.get("/").body == b"done"

        def upload() -> None:
            asked.wait(LIMIT)
            assert client.post("/", (bytes(100_000) for _ in range(8))).body == b"done"

        together(wait, *[upload] * uploads)


def test_who_reads_for_all_goes_on_when_another_has_sent_its_body():
    """Nothing that comes from the server tells it of that."""

    def script(wire: Wire) -> None:
        wire.begin()
        wire.rest()

    with H2Peer(script) as peer:
        stream = TcpTransport().connect("localhost", peer.port, None)
        connection = h2_connection.H2Connection(stream, peer.base, None)
        machine = connection.codec.connection

        def wait(ready) -> None:
            with connection.lock:
                connection.wait(ready, Clock(Timeouts.of(40_000)), 40_000, "write", "sending")

        wait(lambda: machine.settings_acked and machine.has_begun)
        with connection.lock:
            connection.send_now()
            sid = connection.next_id()
            connection.codec.send_request_open(sid, "POST", "http", "localhost", "/")
            connection.codec.send_data(sid, bytes(10_000), False)
            body = connection.stream(sid)
            connection._writing = True  # as another thread's

        thread = threading.Thread(target=wait, args=(lambda: not body.outgoing_bytes,))
        thread.start()
        while not connection._reading:
            thread.join(0.001)
        with connection.lock:
            connection._writing = False
            connection.send_now()
        thread.join(20)
        assert not thread.is_alive()
        connection.close()


def test_who_reads_for_all_hands_on_when_its_time_is_up(monkeypatch):
    """The clock is put forward once both have asked: the one who reads finds its time over."""
    first, both = threading.Event(), threading.Event()
    forward = 0.0
    monkeypatch.setattr(h2_connection, "monotonic", lambda: time.monotonic() + forward)

    def script(wire: Wire) -> None:
        wire.begin()
        wire.answer(wire.request()[0])
        slow = wire.request()[0]
        first.set()
        other = wire.request()[0]
        both.set()
        assert wire.next("RST_STREAM")[2] == slow
        wire.answer(other, b"answered")
        wire.rest()

    with H2Peer(script) as peer, client_of(peer, timeout_ms=1_000_000) as client:
        assert client.get("/").ok
        [[connection]] = client._pool._idle.values()

        def impatient() -> None:
            with pytest.raises(TimeoutError) as caught:
                client.get("/", timeout_ms=100_000)
            assert caught.value.phase == "read"

        def patient() -> None:
            assert first.wait(LIMIT)
            until(lambda: connection._reading)
            assert client.get("/").body == b"answered"

        def pass_the_time() -> None:
            nonlocal forward
            assert both.wait(LIMIT)
            until(lambda: len(connection._sleepers))
            forward = 200.0
            connection._reader.ring()

        together(impatient, patient, pass_the_time)
        assert peer.connections == 1


def test_a_download_that_is_closed_early_resets_its_stream_alone():
    def script(wire: Wire) -> None:
        wire.begin()
        sid, _ = wire.request()
        wire.send(head(sid, [(":status", "200")], end=False), data(sid, b"part"))
        assert wire.next("RST_STREAM")[2:] == (sid, (8).to_bytes(4, "big"))
        wire.answer(wire.request()[0], b"next")
        wire.rest()

    with H2Peer(script) as peer, client_of(peer) as client:
        with client.get_streaming("/") as download:
            assert download.read_chunk() == b"part"
        assert client.get("/").body == b"next"
        assert (peer.connections, client._pool.counts()) == (1, (0, 1, 0))


def drop(download) -> None:
    del download
    gc.collect()


def test_a_download_that_is_dropped_is_reset_with_the_next_call():
    def script(wire: Wire) -> None:
        wire.begin()
        first, _ = wire.request()
        wire.send(head(first, [(":status", "200")], end=False), data(first, b"part"))
        assert wire.next("RST_STREAM")[2] == first
        wire.answer(wire.request()[0], b"next")
        wire.rest()

    with H2Peer(script) as peer, client_of(peer) as client:
        with pytest.warns(ResourceWarning, match="HttpDownload"):
            drop(client.get_streaming("/"))
        assert client.get("/").body == b"next"
        assert client._pool.counts() == (0, 1, 0)


def test_a_long_body_is_too_long():
    def script(wire: Wire) -> None:
        wire.begin()
        wire.answer(wire.request()[0], bytes(101))
        sid, _ = wire.request()
        wire.send(head(sid, [(":status", "200")], end=False), data(sid, bytes(101), end=True))
        wire.answer(wire.request()[0], bytes(100))
        wire.rest()

    with H2Peer(script) as peer, client_of(peer, max_response_bytes=100) as client:
        for _ in range(2):
            with pytest.raises(NetworkError, match="exceeds max_response_bytes, 100"):
                client.get("/")
        assert len(client.get("/").body) == 100


BROKEN = {
    "not http/2": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "no settings first": build_ping(bytes(8)),
    "a frame too large": b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "a push": build_settings() + b"\x00\x00\x05\x05\x04\x00\x00\x00\x01\x00\x00\x00\x02\x88",
    "a head for no request": build_settings() + head(99, [(":status", "200")]),
    "a flood of empty settings": build_settings() * 2000,
}


@pytest.mark.parametrize("wire_bytes", BROKEN.values(), ids=BROKEN)
def test_a_server_that_breaks_the_protocol(wire_bytes):
    def script(wire: Wire) -> None:
        wire.sock.recv(24)
        wire.send(wire_bytes)
        wire.sock.shutdown(socket.SHUT_WR)
        while wire.sock.recv(65536):
            pass

    with H2Peer(script) as peer, client_of(peer) as client:
        with pytest.raises(HttpProtocolError, match=f"localhost:{peer.port}"):
            client.get("/")
        assert client._pool.counts() == (0, 0, 0)


BAD_HEADS = {
    "no status": [("x", "1")],
    "upper case": [(":status", "200"), ("X", "1")],
    "connection": [(":status", "200"), ("connection", "close")],
    "a line end": [(":status", "200"), ("x", "a\r\nb")],
    "more than content-length": [(":status", "200"), ("content-length", "1")],
}


@pytest.mark.parametrize("fields", BAD_HEADS.values(), ids=BAD_HEADS)
def test_a_response_that_is_malformed_costs_its_stream(fields):
    def script(wire: Wire) -> None:
        wire.begin()
        sid, _ = wire.request()
        wire.send(head(sid, fields, end=False), data(sid, b"body", end=True))
        wire.answer(wire.request()[0], b"fine")
        wire.rest()

    with H2Peer(script) as peer, client_of(peer) as client:
        with pytest.raises(HttpProtocolError):
            client.get("/")
        assert client.get("/").body == b"fine"
        assert peer.connections == 1


def test_a_connection_that_breaks_off_fails_every_stream():
    def script(wire: Wire) -> None:
        wire.begin()
        for _ in range(3):
            wire.request()

    with H2Peer(script) as peer, client_of(peer) as client:

        def call() -> None:
            with pytest.raises(NetworkError):
                client.get("/")

        together(call, call, call)
        assert client._pool.counts() == (0, 0, 0)


def test_what_a_kept_connection_takes_down_is_sent_again_if_that_is_safe():
    def breaking(wire: Wire) -> None:
        wire.begin()
        wire.answer(wire.request()[0], b"first")
        wire.request()

    with H2Peer(breaking, breaking, handling()) as peer, client_of(peer) as client:
        assert client.get("/").body == b"first"
        assert client.get("/").body == b"first"  # on the second connection
        with pytest.raises(NetworkError):
            client.post("/", b"x")
        assert peer.connections == 2
        assert client.get("/third").body == b"/third"


def test_an_idle_connection_that_was_closed_is_not_used():
    closing = threading.Event()
    gone = threading.Event()

    def script(wire: Wire) -> None:
        wire.begin()
        sid, _ = wire.request()
        wire.answer(sid, b"first")
        closing.wait(LIMIT)
        wire.send(build_goaway(sid, 0))
        wire.sock.shutdown(socket.SHUT_WR)
        gone.set()
        wire.rest()

    with H2Peer(script, handling()) as peer, client_of(peer) as client:
        assert client.get("/").body == b"first"
        closing.set()
        assert gone.wait(LIMIT)
        wait_for_input(client)
        assert client.post("/second", b"x").body == b"/second"
        assert peer.connections == 2


def test_a_long_silence_ends_with_a_ping(monkeypatch):
    monkeypatch.setattr(h2_connection, "_PING_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(h2_connection, "_PING_WAIT_MS", 10_000)

    with H2Peer(handling()) as peer, client_of(peer) as client:
        assert client.get("/1").ok
        assert client.get("/2").ok
        assert peer.connections == 1


def test_no_answer_to_the_ping_is_a_new_connection(monkeypatch):
    monkeypatch.setattr(h2_connection, "_PING_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(h2_connection, "_PING_WAIT_MS", 100)
    pinged = threading.Event()

    def script(wire: Wire) -> None:
        wire.begin()
        wire.answer(wire.request()[0], b"first")
        wire.answers_pings = False
        wire.next("PING")
        pinged.set()
        wire.rest()

    with H2Peer(script, handling()) as peer, client_of(peer) as client:
        assert client.get("/").body == b"first"
        assert client.post("/second", b"x").body == b"/second"
        assert peer.connections == 2
        assert pinged.wait(LIMIT)


def test_a_server_that_hangs_up_on_the_ping(monkeypatch):
    monkeypatch.setattr(h2_connection, "_PING_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(h2_connection, "_PING_WAIT_MS", 10_000)

    def script(wire: Wire) -> None:
        wire.begin()
        wire.answer(wire.request()[0], b"first")
        wire.answers_pings = False
        wire.next("PING")

    with H2Peer(script, handling()) as peer, client_of(peer) as client:
        assert client.get("/").body == b"first"
        before = time.process_time()
        assert client.post("/second", b"x").body == b"/second"
        assert time.process_time() - before < 1.0  # it did not spin
        assert peer.connections == 2


def test_a_body_waits_for_100_continue():
    def script(wire: Wire) -> None:
        wire.begin()
        sid, fields = wire.request()
        assert fields["expect"] == "100-continue"
        wire.send(head(sid, [(":status", "100")], end=False))
        wire.answer(sid, wire.body(sid))
        sid, _ = wire.request()
        wire.answer(sid, b"no", "417")
        assert wire.next("RST_STREAM", "DATA")[0] == "RST_STREAM"
        wire.rest()

    with H2Peer(script) as peer, client_of(peer, expect_timeout_ms=10_000) as client:
        expect = {"Expect": "100-continue"}
        assert client.post("/", b"body", headers=expect).body == b"body"
        assert client.post("/", b"body", headers=expect).status == 417


def test_a_server_that_is_silent_runs_into_the_read_timeout():
    def script(wire: Wire) -> None:
        wire.begin()
        wire.rest()

    with H2Peer(script) as peer, client_of(peer, read_timeout_ms=100) as client:
        with pytest.raises(TimeoutError) as caught:
            client.get("/")
        assert caught.value.phase == "read"


def test_one_dial_serves_all_who_wait_for_it():
    dialled = []

    class Slow:
        def connect(self, host, port, deadline):
            dialled.append(host)
            time.sleep(0.05)
            return TcpTransport().connect(host, port, deadline)

    with H2Peer(handling()) as peer, client_of(peer, transport=Slow()) as client:
        together(*[lambda: client.get("/")] * 20)
        assert (len(dialled), peer.connections) == (1, 1)


def test_a_dial_that_fails_fails_all_who_wait_for_it_at_once():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with HttpClient(f"http://127.0.0.1:{port}", prefer_h2c=True) as client:

        def call() -> None:
            with pytest.raises(ConnectionRefusedError):
                client.get("/")

        together(*[call] * 10)
        assert client._pool.counts() == (0, 0, 0)


def test_a_forked_child_leaves_the_parents_connection_alone():
    with H2Peer(handling()) as peer, client_of(peer) as client:
        assert client.get("/a").ok
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
            pid = os.fork()
        if not pid:
            os._exit(client.idle_count())
        assert os.waitpid(pid, 0)[1] == 0
        assert client.get("/b").ok
        assert peer.connections == 1


def test_closing_the_client_lets_calls_under_way_end():
    asked, closed = threading.Event(), threading.Event()

    def script(wire: Wire) -> None:
        wire.begin()
        sid, _ = wire.request()
        asked.set()
        closed.wait(LIMIT)
        wire.answer(sid, b"in time")
        wire.rest()

    with H2Peer(script) as peer:
        client = client_of(peer)

        def close() -> None:
            asked.wait(LIMIT)
            client.close()
            closed.set()

        def call() -> None:
            assert client.get("/").body == b"in time"

        together(close, call)
        assert client._pool.counts() == (0, 0, 0)
        with pytest.raises(NetworkError, match="closed"):
            client.get("/")


def test_requests_are_sent_as_they_are():
    with (
        H2Peer(handling(lambda request: Reply(body=request.method.encode()))) as peer,
        client_of(peer) as client,
    ):
        assert client.send(Request("PATCH", "/", b"x")).body == b"PATCH"
        assert client.options("*").body == b"OPTIONS"


def test_cookies_and_credentials_over_http_2():
    def handle(request):
        if request.url == "/set":
            return Reply(headers=[("set-cookie", "a=1"), ("set-cookie", "b=2")])
        fields = request.headers
        return Reply(body=f"{fields.get('cookie')};{fields.get('authorization')}".encode())

    with H2Peer(handling(handle)) as peer, client_of(peer, auth=("u", "p")) as client:
        assert client.get("/set").ok
        assert client.get("/").text() == "a=1; b=2;Basic dTpw"
