from __future__ import annotations

import copy
import errno
import os
import pickle
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flare.net import AddressInUse, ConnectionRefused, IpAddr, NetworkError, SocketAddr, Timeout
from flare.udp import UDP_MAX_PAYLOAD, DatagramTooLarge, UdpSocket

DEADLINE = 10.0
LOOPBACKS = [SocketAddr.localhost(0), SocketAddr.localhost_v6(0)]
FAMILIES = [socket.AF_INET, socket.AF_INET6]


@pytest.fixture(params=LOOPBACKS, ids=str)
def receiver(request: pytest.FixtureRequest) -> Iterator[UdpSocket]:
    with UdpSocket.bind(request.param) as receiver:
        receiver.set_recv_timeout(5000)
        yield receiver


@pytest.fixture
def sender() -> Iterator[UdpSocket]:
    with UdpSocket.unbound() as sender:
        sender.set_recv_timeout(5000)
        yield sender


@pytest.mark.parametrize("payload", [b"hello", b"", bytearray(b"abc"), memoryview(b"xyz")])
def test_datagrams_go_there_and_back(
    receiver: UdpSocket, sender: UdpSocket, payload: bytes
) -> None:
    assert sender.send_to(payload, receiver.local_addr()) == len(payload)
    data, back = receiver.recv_from()
    assert data == bytes(payload)
    assert type(data) is bytes
    receiver.send_to(b"answer", back)
    assert sender.recv_from() == (b"answer", receiver.local_addr())


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("127.0.0.1:5", r"not str: SocketAddr\.parse\('127\.0\.0\.1:5'\)"),
        (("127.0.0.1", 5), r"not tuple: SocketAddr\('127\.0\.0\.1', 5\)"),
    ],
)
def test_what_is_no_address_is_told_how_to_become_one(given: Any, advice: str) -> None:
    with UdpSocket.unbound() as sender:
        for call in (UdpSocket.bind, lambda addr: sender.send_to(b"x", addr)):
            with pytest.raises(TypeError, match=f"an address is a SocketAddr, {advice}"):
                call(given)


def test_datagrams_keep_their_borders(receiver: UdpSocket, sender: UdpSocket) -> None:
    for payload in (b"one", b"", b"three"):
        sender.send_to(payload, receiver.local_addr())
    assert [receiver.recv_from()[0] for _ in range(3)] == [b"one", b"", b"three"]


def test_items_of_several_bytes_count_as_bytes(receiver: UdpSocket, sender: UdpSocket) -> None:
    assert sender.send_to(memoryview(bytes(16)).cast("Q"), receiver.local_addr()) == 16
    assert receiver.recv_from()[0] == bytes(16)
    with pytest.raises(DatagramTooLarge):
        sender.send_to(memoryview(bytes(65536)).cast("Q"), receiver.local_addr())


def test_the_largest_datagram_and_one_byte_more(receiver: UdpSocket, sender: UdpSocket) -> None:
    assert sender.send_to(bytes(UDP_MAX_PAYLOAD), receiver.local_addr()) == UDP_MAX_PAYLOAD
    assert len(receiver.recv_from()[0]) == UDP_MAX_PAYLOAD
    with pytest.raises(DatagramTooLarge) as caught:
        sender.send_to(bytes(UDP_MAX_PAYLOAD + 1), receiver.local_addr())
    assert (caught.value.size, caught.value.max_size) == (65508, 65507)
    assert caught.value.errno == errno.EMSGSIZE
    assert str(caught.value) == "DatagramTooLarge: 65508 bytes (max 65507)"


@pytest.mark.skipif(sys.platform != "linux", reason="IP options as Linux counts them")
def test_a_datagram_the_system_finds_too_large(sender: UdpSocket) -> None:
    with UdpSocket.bind(SocketAddr.localhost(0)) as receiver:
        sender.send_to(b"x", receiver.local_addr())
        # 40 bytes of options make the packet longer than IP allows.
        sender._raw.sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\1" * 40)
        with pytest.raises(DatagramTooLarge) as caught:
            sender.send_to(bytes(UDP_MAX_PAYLOAD), receiver.local_addr())
    assert (caught.value.size, caught.value.max_size) == (UDP_MAX_PAYLOAD, UDP_MAX_PAYLOAD - 1)


@pytest.mark.parametrize("duplicate", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_datagram_too_large_can_be_copied(duplicate: Any) -> None:
    error = DatagramTooLarge(70000)
    again = duplicate(error)
    assert type(again) is DatagramTooLarge
    assert str(again) == str(error) == "DatagramTooLarge: 70000 bytes (max 65507)"
    assert (again.size, again.max_size, again.errno) == (70000, 65507, errno.EMSGSIZE)


def test_a_datagram_is_cut_to_the_size_asked_for(receiver: UdpSocket, sender: UdpSocket) -> None:
    for payload in (b"abcdef", b"ghijkl"):
        sender.send_to(payload, receiver.local_addr())
    assert receiver.recv_from(4)[0] == b"abcd"
    buffer = bytearray(b"......")
    size, back = receiver.recv_from_into(memoryview(buffer)[1:4])
    assert (size, back) == (3, SocketAddr(receiver.local_addr().ip, sender.local_addr().port))
    assert buffer == b".ghi.."
    with pytest.raises(ValueError):
        receiver.recv_from(-1)


def test_recv_from_into_says_how_much_is_there(receiver: UdpSocket, sender: UdpSocket) -> None:
    sender.send_to(b"abc", receiver.local_addr())
    sender.send_to(b"", receiver.local_addr())
    buffer = bytearray(10)
    assert receiver.recv_from_into(buffer)[0] == 3
    assert buffer[:3] == b"abc"
    assert receiver.recv_from_into(buffer)[0] == 0


def test_try_recv_from_does_not_wait(receiver: UdpSocket, sender: UdpSocket) -> None:
    with pytest.raises(Timeout) as caught:
        receiver.try_recv_from()
    assert str(caught.value) == "Timeout: recvfrom"
    sender.send_to(b"x", receiver.local_addr())
    assert receiver.try_recv_from()[0] == b"x"


def test_a_receive_times_out(receiver: UdpSocket) -> None:
    receiver.set_recv_timeout(10)
    for receive in (receiver.recv_from, lambda: receiver.recv_from_into(bytearray(1))):
        with pytest.raises(Timeout) as caught:
            receive()
        assert (caught.value.op, caught.value.ms) == ("recvfrom", 10)
        assert isinstance(caught.value, TimeoutError)


def test_a_non_blocking_socket_does_not_wait(receiver: UdpSocket) -> None:
    receiver.set_nonblocking(True)
    with pytest.raises(Timeout) as caught:
        receiver.recv_from()
    assert caught.value.ms == 0


def test_a_full_send_buffer_times_out(
    sender: UdpSocket, receiver: UdpSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Loopback never fills one, so the system's answer is put in its place.
    class Full:
        def sendto(self, *_: object) -> int:
            raise BlockingIOError(errno.EAGAIN, "full")

        def getblocking(self) -> bool:
            return True

    sender.send_to(b"", receiver.local_addr())
    sender.set_send_timeout(30)
    with monkeypatch.context() as patch:
        real = sender._raw.sock
        patch.setattr(sender._raw, "sock", Full())
        with pytest.raises(Timeout) as caught:
            sender.send_to(b"x", receiver.local_addr())
        patch.setattr(sender._raw, "sock", real)
    assert (caught.value.op, caught.value.ms) == ("sendto", 30)


@pytest.mark.parametrize("setter", ["set_recv_timeout", "set_send_timeout"])
def test_negative_timeouts_are_refused(sender: UdpSocket, setter: str) -> None:
    with pytest.raises(ValueError, match="timeout_ms"):
        getattr(sender, setter)(-1)


def test_a_taken_port_is_refused(receiver: UdpSocket) -> None:
    with pytest.raises(AddressInUse) as caught:
        UdpSocket.bind(receiver.local_addr())
    assert caught.value.addr == str(receiver.local_addr())


@pytest.mark.parametrize("option", ["reuse_addr", "reuse_port"])
def test_sockets_that_say_so_share_a_port(option: str) -> None:
    options = {option: True}
    with (
        UdpSocket.bind(SocketAddr.localhost(0), **options) as one,
        UdpSocket.bind(one.local_addr(), **options) as other,
    ):
        assert one.local_addr() == other.local_addr()
        with pytest.raises(AddressInUse):
            UdpSocket.bind(one.local_addr())


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(NetworkError, match=r"192\.0\.2\.1:0") as caught:
        UdpSocket.bind(SocketAddr("192.0.2.1", 0))
    assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("family", [None, *FAMILIES])
def test_an_unbound_socket_has_a_port_after_the_first_send(family: int | None) -> None:
    wild = "::" if family == socket.AF_INET6 else "0.0.0.0"
    with UdpSocket.unbound(family) as sender, UdpSocket.bind(LOOPBACKS[0]) as receiver:
        assert sender.local_addr() == SocketAddr(wild, 0)
        sender.send_to(b"x", receiver.local_addr())
        assert sender.local_addr().port == receiver.recv_from()[1].port > 0


@pytest.mark.parametrize("addr", LOOPBACKS, ids=str)
def test_the_first_send_chooses_the_family(addr: SocketAddr) -> None:
    with UdpSocket.unbound() as sender, UdpSocket.bind(addr) as receiver:
        sender.set_recv_timeout(1234)
        sender.set_send_timeout(567)
        sender.set_broadcast(True)
        sender.set_recv_buffer(20_000)
        sender.set_send_buffer(30_000)
        before = [
            sender._raw.sock.getsockopt(socket.SOL_SOCKET, option)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF)
        ]
        sender.send_to(b"x", receiver.local_addr())
        sock = sender._raw.sock
        assert sock.family == FAMILIES[addr.ip.is_v6()]
        assert sender._raw.recv_timeout_ms == 1234
        assert sender._raw.send_timeout_ms == 567
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        assert before == [
            sock.getsockopt(socket.SOL_SOCKET, option)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF)
        ]
        assert receiver.recv_from()[0] == b"x"


def test_a_thread_that_waits_is_there_when_the_family_is_chosen() -> None:
    with (
        UdpSocket.unbound() as sender,
        UdpSocket.bind(LOOPBACKS[1]) as receiver,
        ThreadPoolExecutor() as threads,
    ):
        for receive in (sender.recv_from, lambda: sender.recv_from_into(bytearray(9))):
            waiting = threads.submit(receive)
            sender.send_to(b"question", receiver.local_addr())
            receiver.send_to(b"answer", receiver.recv_from()[1])
            assert waiting.result(DEADLINE)[1] == receiver.local_addr()


def test_an_ipv6_socket_sends_to_ipv4_addresses() -> None:
    with UdpSocket.unbound(socket.AF_INET6) as sender, UdpSocket.bind(LOOPBACKS[0]) as receiver:
        sender.send_to(b"x", receiver.local_addr())
        data, back = receiver.recv_from()
        assert data == b"x"
        assert back.ip == IpAddr.localhost()
        receiver.send_to(b"y", back)
        assert sender.recv_from()[1].ip == IpAddr("::ffff:127.0.0.1")


def test_an_ipv4_socket_sends_to_v4_mapped_addresses_and_no_others() -> None:
    with UdpSocket.unbound(socket.AF_INET) as sender, UdpSocket.bind(LOOPBACKS[0]) as receiver:
        sender.send_to(b"x", SocketAddr("::ffff:127.0.0.1", receiver.local_addr().port))
        assert receiver.recv_from()[0] == b"x"
        with pytest.raises(NetworkError, match=r"\[::1\]:9") as caught:
            sender.send_to(b"x", SocketAddr.localhost_v6(9))
    assert caught.value.errno == errno.EAFNOSUPPORT


def test_a_socket_on_every_address_takes_both_families() -> None:
    with UdpSocket.bind(SocketAddr.unspecified_v6(0)) as receiver:
        port = receiver.local_addr().port
        for target in (SocketAddr.localhost(port), SocketAddr.localhost_v6(port)):
            with UdpSocket.unbound() as sender:
                sender.send_to(b"x", target)
                _, back = receiver.recv_from()
                assert back.ip.is_v6()
                assert back.ip.unmap() == target.ip
                receiver.send_to(b"y", back)
                assert sender.recv_from()[0] == b"y"


@pytest.mark.parametrize("family", [socket.AF_UNIX, 99, -1])
def test_other_families_are_refused(family: int) -> None:
    with pytest.raises(ValueError, match="family"):
        UdpSocket.unbound(family)


def test_a_failed_send_names_the_target(sender: UdpSocket) -> None:
    with pytest.raises(NetworkError, match=r"sendto 127\.0\.0\.1:0") as caught:
        sender.send_to(b"x", SocketAddr.localhost(0))
    assert caught.value.errno == errno.EINVAL


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse with another errno")
def test_broadcast_must_be_allowed(sender: UdpSocket) -> None:
    target = SocketAddr("127.255.255.255", 9)
    with pytest.raises(NetworkError) as caught:
        sender.send_to(b"x", target)
    assert caught.value.errno == errno.EACCES
    sender.set_broadcast(True)
    assert sender.send_to(b"x", target) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="when refusals are reported differs")
def test_a_refusal_is_named_where_the_system_reports_one(sender: UdpSocket) -> None:
    with UdpSocket.bind(SocketAddr.localhost(0)) as gone:
        target = gone.local_addr()
        sender.send_to(b"", target)
    sender._raw.sock.connect(target.to_sockaddr())
    sender.send_to(b"x", target)
    with pytest.raises(ConnectionRefused):
        sender.recv_from()


def test_close_wakes_a_thread_that_waits(receiver: UdpSocket) -> None:
    receiver.set_recv_timeout(0)
    with ThreadPoolExecutor() as threads:
        waiting = [
            threads.submit(receiver.recv_from),
            threads.submit(receiver.recv_from_into, bytearray(1)),
        ]
        receiver.close()
        for future in waiting:
            error = future.exception(DEADLINE)
            assert isinstance(error, NetworkError)
            assert error.errno == errno.EBADF


@pytest.mark.timeout(method="thread")  # SIGALRM is the test's own.
def test_a_signal_handler_may_close_the_socket_it_interrupts(receiver: UdpSocket) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: receiver.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(NetworkError) as caught:
            receiver.recv_from()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("addr", LOOPBACKS, ids=str)
def test_a_closed_socket_refuses(addr: SocketAddr) -> None:
    sender = UdpSocket.unbound()
    with sender as entered:
        assert entered is sender
    sender.close()
    assert sender.closed
    assert sender.fd() == sender.fileno() == -1
    assert repr(sender) == "<UdpSocket closed>"
    for operation in (
        lambda: sender.send_to(b"x", SocketAddr(addr.ip, 9)),
        sender.recv_from,
        sender.try_recv_from,
        lambda: sender.recv_from_into(bytearray(1)),
        sender.local_addr,
        lambda: sender.set_recv_timeout(0),
        lambda: sender.set_send_timeout(1),
        lambda: sender.set_recv_buffer(1),
        lambda: sender.set_send_buffer(1),
        lambda: sender.set_broadcast(True),
        lambda: sender.set_nonblocking(True),
    ):
        with pytest.raises(NetworkError) as caught:
            operation()
        assert caught.value.errno == errno.EBADF


def test_the_descriptor_blocks_and_is_not_inherited(receiver: UdpSocket) -> None:
    assert receiver.fd() == receiver.fileno() >= 0
    assert not os.get_inheritable(receiver.fd())
    assert os.get_blocking(receiver.fd())
    assert repr(receiver) == f"<UdpSocket fd={receiver.fd()} {receiver.local_addr()}>"


def test_a_leaked_socket_warns_and_closes() -> None:
    leaked = [UdpSocket.bind(SocketAddr.localhost(0))]
    number = leaked[0].fd()
    with pytest.warns(ResourceWarning, match="unclosed <UdpSocket fd="):
        leaked.clear()
    with pytest.raises(OSError):
        os.fstat(number)


def test_the_placeholder_of_an_unbound_socket_leaks_no_warning(receiver: UdpSocket) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with UdpSocket.unbound() as sender:
            sender.send_to(b"x", receiver.local_addr())
