"""``TlsSocket``: an engine with the face of a non-blocking socket; its transport is made up."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
from tls_peers import Pki, engines, pass_on, shake

from flare.tls.tls_socket import TlsSocket


class Wire:
    """A non-blocking transport that takes ``room`` bytes and hands out what is in ``coming``."""

    def __init__(self) -> None:
        self.coming: list[bytes] = []
        self.gone = b""
        self.room = 1 << 30
        self.calls: list[Any] = []
        self.closed = False

    def recv(self, size: int) -> bytes:
        if not self.coming:
            raise BlockingIOError
        data, rest = self.coming[0][:size], self.coming[0][size:]
        self.coming[:1] = [rest] if rest else []
        return data

    def send(self, data: Any) -> int:
        taken = bytes(data[: self.room])
        if not taken:
            raise BlockingIOError
        self.gone += taken
        self.room -= len(taken)
        return len(taken)

    def shutdown(self, how: int) -> None:
        self.calls.append(how)

    def setsockopt(self, *option: Any) -> None:
        self.calls.append(option)

    def fileno(self) -> int:
        return -1 if self.closed else 7

    def close(self) -> None:
        self.closed = True


class Both:
    """The socket under test, its transport, and the client's engine."""

    def __init__(self, pki: Pki, **changes: Any) -> None:
        self.client, server = engines(pki.acceptor(), pki.context(**changes))
        shake(self.client, server)
        pass_on(self.client, server)
        self.wire = Wire()
        self.sock = TlsSocket(self.wire, server)

    def hand_over(self) -> None:
        """What the client has written arrives in one piece."""
        if data := self.client.pending_output():
            self.wire.coming.append(data)

    def read(self) -> bytes:
        """All that has gone to the client, decrypted."""
        data, self.wire.gone = self.wire.gone, b""
        if data:
            self.client.receive(data)
        found = b""
        while piece := self.client.read():
            found += piece
        return found


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def both(pki: Pki, request: pytest.FixtureRequest) -> Both:
    return Both(pki, maximum_version=request.param)


def test_all_records_that_came_are_one_read(both: Both) -> None:
    for n in range(5):
        both.client.write(b"%d" % n)
    both.hand_over()
    assert both.sock.recv(1) == b"01234"
    with pytest.raises(BlockingIOError):
        both.sock.recv(1)


def test_a_part_of_a_record_is_nothing_yet(both: Both) -> None:
    both.client.write(b"first")
    both.client.write(b"x" * 1000)
    data = both.client.pending_output()
    both.wire.coming = [data[:-1]]
    assert both.sock.recv(100) == b"first"
    with pytest.raises(BlockingIOError):
        both.sock.recv(100)
    both.wire.coming = [data[-1:]]
    assert both.sock.recv(100) == b"x" * 1000


def test_an_end_behind_data_is_reported_next(both: Both) -> None:
    both.client.write(b"last words")
    both.client.shutdown()
    both.hand_over()
    assert both.sock.recv(100) == b"last words"
    assert both.wire.calls == [socket.SHUT_RD]  # so the descriptor says so
    assert both.sock.recv(100) == b""


def test_an_end_of_the_transport_alone_is_an_end(both: Both) -> None:
    both.wire.coming = [b""]
    assert both.sock.recv(100) == b""
    assert both.sock.recv(100) == b""


def test_a_record_that_was_tampered_with_is_an_error_and_an_alert(both: Both) -> None:
    both.client.write(b"hello")
    data = bytearray(both.client.pending_output())
    data[-1] ^= 1
    both.wire.coming = [bytes(data)]
    with pytest.raises(OSError, match="DECRYPTION_FAILED_OR_BAD_RECORD_MAC"):
        both.sock.recv(100)
    assert both.wire.gone
    assert both.sock.recv(100) == b""


def test_what_came_before_it_is_handed_out_first(both: Both) -> None:
    both.client.write(b"good")
    good = both.client.pending_output()
    both.client.write(b"bad")
    both.wire.coming = [good + both.client.pending_output()[:-1] + b"\0"]
    assert both.sock.recv(100) == b"good"
    assert both.sock.recv(100) == b""


def test_what_the_transport_does_not_take_is_not_reported_as_sent(both: Both) -> None:
    both.read()
    data = bytes(range(250)) * 4
    both.wire.room = 100
    sent = 0
    counts = []
    while sent < len(data):
        try:
            count = both.sock.send(data[sent:])
        except BlockingIOError:
            both.wire.room = 100
            continue
        counts.append(count)
        sent += count
    assert sent == len(data)
    assert len(counts) > 5  # it is seen to make progress
    assert both.read() == data


def test_a_transport_that_takes_nothing_blocks_until_all_has_gone(both: Both) -> None:
    both.read()
    both.wire.room = 0
    with pytest.raises(BlockingIOError):
        both.sock.send(b"hello")
    with pytest.raises(BlockingIOError):
        both.sock.send(b"hello")
    both.wire.room = 1000
    assert both.sock.send(b"hello, and more that is not looked at") == 5
    assert both.sock.send(b", world") == 7
    assert both.read() == b"hello, world"


def test_a_gathered_write_is_one_record(both: Both) -> None:
    both.read()
    assert both.sock.sendmsg([b"head", memoryview(b"body"), bytearray(b"tail")]) == 12
    assert len(both.wire.gone) < 12 + 40
    assert both.read() == b"headbodytail"


def test_much_at_once_is_sent_piece_by_piece(both: Both) -> None:
    data = bytes(range(256)) * 4096
    out = [b"head", memoryview(data)]
    size = both.sock.sendmsg(out)
    assert 4 < size < len(data)
    rest = memoryview(data)[size - 4 :]
    while rest:
        rest = rest[both.sock.send(rest) :]
    assert both.read() == b"head" + data


def test_tickets_that_find_no_room_go_before_the_first_data(pki: Pki) -> None:
    client, server = engines(pki.acceptor(), pki.context())
    client.handshake()
    server.receive(client.pending_output())
    server.handshake()
    client.receive(server.pending_output())
    client.handshake()
    server.receive(client.pending_output())
    server.handshake()
    wire = Wire()
    wire.room = 10
    sock = TlsSocket(wire, server)
    with pytest.raises(BlockingIOError):
        sock.send(b"data")
    wire.room = 1 << 20
    assert sock.send(b"data") == 4
    client.receive(wire.gone)
    assert client.read() == b"data"


def test_the_end_is_announced_once(both: Both) -> None:
    both.read()
    both.sock.shutdown(socket.SHUT_WR)
    assert both.wire.calls == [socket.SHUT_WR]
    both.client.receive(both.wire.gone)
    assert both.client.read() == b""  # no truncation
    said = both.wire.gone
    both.sock.close()
    both.sock.close()
    assert both.wire.gone == said
    assert both.sock.fileno() == -1


def test_after_our_end_the_peer_may_go_on(both: Both) -> None:
    both.sock.shutdown(socket.SHUT_WR)
    both.client.write(b"still here")
    both.hand_over()
    assert both.sock.recv(100) == b"still here"
    both.client.shutdown()
    both.hand_over()
    assert both.sock.recv(100) == b""


def test_a_close_says_so(both: Both) -> None:
    both.read()
    both.sock.close()
    assert both.wire.closed
    both.client.receive(both.wire.gone)
    assert both.client.read() == b""


def test_a_close_amid_a_record_does_not(both: Both) -> None:
    both.read()
    both.wire.room = 5
    with pytest.raises(BlockingIOError):
        both.sock.send(b"hello")
    both.sock.close()
    assert both.wire.closed
    assert len(both.wire.gone) == 5


def test_options_reach_the_transport(both: Both) -> None:
    both.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"x")
    assert both.wire.calls[-1] == (socket.SOL_SOCKET, socket.SO_LINGER, b"x")
