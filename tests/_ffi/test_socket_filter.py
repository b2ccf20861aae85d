"""The filter that keeps connections from being completed."""

from __future__ import annotations

import socket
import sys

import pytest

from flare._ffi.socket_filter import drop_all

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def test_what_waits_can_be_accepted_and_no_more_comes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as late:
        listener.setblocking(False)
        early = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        try:
            assert drop_all(listener)
            late.setblocking(False)
            late.connect_ex(listener.getsockname())
            for peer in early:
                accepted, _ = listener.accept()
                peer.sendall(b"x")
                accepted.settimeout(5)
                assert accepted.recv(1) == b"x"  # the filter is the listener's alone
                accepted.close()
            with pytest.raises(BlockingIOError):
                listener.accept()
        finally:
            for peer in early:
                peer.close()


def test_off_linux_it_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not drop_all(listener)
        socket.create_connection(listener.getsockname()).close()


def test_a_closed_socket_is_no_error() -> None:
    sock = socket.socket()
    sock.close()
    assert not drop_all(sock)
