"""The filter that keeps connections from being begun, and what tells of those that have been."""

from __future__ import annotations

import socket
import sys

import pytest
from half_open import begin_to_connect, hear_again

from flare._ffi.sock_diag import has_half_open
from flare._ffi.socket_filter import drop_syns

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def test_what_waits_can_be_accepted_and_no_more_comes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as late:
        listener.settimeout(5)
        early = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        try:
            assert drop_syns(listener)
            late.setblocking(False)
            late.connect_ex(listener.getsockname())
            for peer in early:
                accepted, _ = listener.accept()
                peer.sendall(b"x")
                accepted.settimeout(5)
                assert accepted.recv(1) == b"x"  # the filter is the listener's alone
                accepted.close()
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
        finally:
            for peer in early:
                peer.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_handshake_that_has_begun_is_told_of_and_completed(family: int) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with (
        socket.create_server((host, 0), family=family) as listener,
        socket.socket(family) as client,
    ):
        port = listener.getsockname()[1]
        assert not has_half_open(family, port)
        begin_to_connect(client, (host, port))
        assert has_half_open(family, port)
        assert drop_syns(listener)
        hear_again(client)
        listener.settimeout(20)  # what was not heard is said again after 1, 3, 7 seconds
        accepted, _ = listener.accept()
        with accepted:
            assert not has_half_open(family, port)
            client.send(b"x")
            accepted.settimeout(5)
            assert accepted.recv(1) == b"x"


def test_where_the_kernel_does_not_tell_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError

    monkeypatch.setattr(socket, "socket", refuse)
    assert not has_half_open(socket.AF_INET, 80)


def test_off_linux_it_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not drop_syns(listener)
        assert not has_half_open(socket.AF_INET, listener.getsockname()[1])
        socket.create_connection(listener.getsockname()).close()


def test_a_closed_socket_is_no_error() -> None:
    sock = socket.socket()
    sock.close()
    assert not drop_syns(sock)
