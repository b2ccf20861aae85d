from __future__ import annotations

import copy
import errno
import os
import pickle
import select
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from flare.net import IpAddr, NetworkError, SocketAddr, Timeout, raw_socket
from flare.udp import (
    BatchReceiver,
    DatagramTooLarge,
    UdpBatchUnsupported,
    UdpSocket,
    batch,
    send_batch,
    send_segmented,
    udp_batch_supported,
)

LOOPBACKS = [SocketAddr.localhost(0), SocketAddr.localhost_v6(0)]
linux_only = pytest.mark.skipif(not udp_batch_supported(), reason="Linux system calls")


@pytest.fixture(params=LOOPBACKS, ids=str)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[UdpSocket, UdpSocket]]:
    with UdpSocket.bind(request.param) as one, UdpSocket.bind(request.param) as other:
        other.set_recv_timeout(5000)
        yield one, other


def failing(code: int) -> Any:
    def call(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return call


def receive_all(receiver: BatchReceiver, sock: UdpSocket, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        assert select.select([sock], [], [], 5)[0], "nothing comes"
        found += [bytes(receiver.message(i)) for i in range(receiver.recv(sock.fd()))]
    return found


def test_support_is_a_matter_of_the_platform() -> None:
    assert udp_batch_supported() is (sys.platform == "linux")


@linux_only
def test_a_batch_is_sent_and_received(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    payloads = [b"first", b"", bytearray(b"third"), memoryview(b"4")]
    assert send_batch(one.fd(), payloads, [other.local_addr()] * 4) == 4
    receiver = BatchReceiver(8, 100)
    assert receiver.recv(other.fd()) == receiver.count() == len(receiver) == 4
    assert [bytes(receiver.message(i)) for i in range(4)] == [bytes(p) for p in payloads]
    assert {receiver.sender(i) for i in range(4)} == {one.local_addr()}
    assert not any(receiver.truncated(i) for i in range(4))


@linux_only
def test_what_is_no_address_is_refused(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, _ = pair
    addr: Any = ("127.0.0.1", 5)
    with pytest.raises(TypeError, match="an address is a SocketAddr"):
        send_batch(one.fd(), [b"a"], [addr])
    with pytest.raises(TypeError, match="an address is a SocketAddr"):
        send_segmented(one.fd(), addr, b"a", 1)


@linux_only
def test_each_payload_goes_to_the_address_beside_it(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    assert send_batch(one.fd(), [b"a", b"b"], [other.local_addr(), one.local_addr()]) == 2
    assert other.recv_from()[0] == b"a"
    assert one.recv_from()[0] == b"b"


@linux_only
def test_more_than_one_call_holds_is_sent_in_several(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    payloads = [i.to_bytes(2, "big") for i in range(150)]
    assert send_batch(one.fd(), payloads, [other.local_addr()] * 150) == 150
    assert receive_all(BatchReceiver(40, 10), other, 150) == payloads


@linux_only
def test_an_ipv6_socket_sends_batches_to_ipv4_addresses() -> None:
    with UdpSocket.unbound(socket.AF_INET6) as one, UdpSocket.bind(LOOPBACKS[0]) as other:
        assert send_batch(one.fd(), [b"x"], [other.local_addr()]) == 1
        assert other.recv_from()[1].ip == IpAddr.localhost()
        assert send_segmented(one.fd(), other.local_addr(), b"yy", 1) == 2
        assert other.recv_from()[0] == b"y"


@linux_only
def test_an_empty_socket_gives_nothing(pair: tuple[UdpSocket, UdpSocket]) -> None:
    receiver = BatchReceiver(2, 10)
    assert receiver.recv(pair[0].fd()) == 0
    assert receiver.count() == 0


@linux_only
def test_at_most_the_capacity_is_taken_and_the_rest_waits(
    pair: tuple[UdpSocket, UdpSocket],
) -> None:
    one, other = pair
    send_batch(one.fd(), [b"1", b"2", b"3"], [other.local_addr()] * 3)
    receiver = BatchReceiver(2, 10)
    assert receiver.recv(other.fd()) == 2
    assert receiver.recv(other.fd()) == 1
    assert bytes(receiver.message(0)) == b"3"
    for i in (-1, 1, 2):
        for look in (receiver.message, receiver.sender, receiver.truncated):
            with pytest.raises(IndexError):
                look(i)


@linux_only
def test_a_long_datagram_is_cut_and_marked(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    send_batch(one.fd(), [b"abcdef", b"abcd"], [other.local_addr()] * 2)
    receiver = BatchReceiver(2, 4)
    receiver.recv(other.fd())
    assert [bytes(receiver.message(i)) for i in range(2)] == [b"abcd", b"abcd"]
    assert [receiver.truncated(i) for i in range(2)] == [True, False]


@pytest.mark.parametrize(("capacity", "max_payload"), [(0, 1), (1, 0), (-1, 1)])
def test_a_receiver_needs_room(capacity: int, max_payload: int) -> None:
    with pytest.raises(ValueError, match="must be > 0"):
        BatchReceiver(capacity, max_payload)


def test_as_many_addresses_as_payloads_are_needed() -> None:
    with pytest.raises(ValueError, match="addrs"):
        send_batch(-1, [b"x"], [])


def test_an_empty_batch_is_no_call_at_all() -> None:
    assert send_batch(-1, [], []) == 0


@linux_only
def test_a_payload_too_large_is_found_before_anything_is_sent(
    pair: tuple[UdpSocket, UdpSocket],
) -> None:
    one, other = pair
    with pytest.raises(DatagramTooLarge):
        send_batch(one.fd(), [b"x", bytes(65508)], [other.local_addr()] * 2)
    with pytest.raises(Timeout):
        other.try_recv_from()


@linux_only
def test_a_failure_after_the_first_is_a_short_count(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    nowhere = SocketAddr(other.local_addr().ip, 0)
    addrs = [other.local_addr(), nowhere, other.local_addr()]
    assert send_batch(one.fd(), [b"1", b"2", b"3"], addrs) == 1
    with pytest.raises(NetworkError, match="sendmmsg") as caught:
        send_batch(one.fd(), [b"2", b"3"], addrs[1:])
    assert caught.value.errno == errno.EINVAL


@linux_only
def test_a_failure_of_a_later_call_is_a_short_count(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    addrs = [other.local_addr()] * 64 + [SocketAddr(other.local_addr().ip, 0)]
    assert send_batch(one.fd(), [b"x"] * 65, addrs) == 64


@linux_only
@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.ENOSYS, UdpBatchUnsupported), (errno.EAGAIN, Timeout), (errno.EPERM, NetworkError)],
)
def test_errors_have_their_class(
    pair: tuple[UdpSocket, UdpSocket], monkeypatch: pytest.MonkeyPatch, code: int, kind: type
) -> None:
    one, other = pair
    monkeypatch.setattr(batch, "sendmmsg", failing(code))
    with pytest.raises(kind) as caught:
        send_batch(one.fd(), [b"x"], [other.local_addr()])
    assert type(caught.value) is kind
    assert caught.value.errno == code


@linux_only
def test_a_system_without_the_calls_says_so(
    pair: tuple[UdpSocket, UdpSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "recvmmsg", failing(errno.ENOSYS))
    receiver = BatchReceiver(1, 1)
    with pytest.raises(UdpBatchUnsupported) as caught:
        receiver.recv(pair[0].fd())
    assert str(caught.value) == "UdpBatchUnsupported: recvmmsg (ENOSYS)"
    assert receiver.count() == 0


@linux_only
def test_a_send_too_large_for_the_system(
    pair: tuple[UdpSocket, UdpSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    monkeypatch.setattr(batch, "sendmmsg", failing(errno.EMSGSIZE))
    with pytest.raises(DatagramTooLarge) as caught:
        send_batch(one.fd(), [bytes(9000)], [other.local_addr()])
    assert caught.value.size == 9000


@linux_only
def test_a_bad_descriptor_is_an_error() -> None:
    with pytest.raises(NetworkError) as caught:
        BatchReceiver(1, 1).recv(-1)
    assert caught.value.errno == errno.EBADF
    for send in (
        lambda: send_batch(-1, [b"x"], [SocketAddr.localhost(9)]),
        lambda: send_segmented(-1, SocketAddr.localhost(9), b"x", 1),
    ):
        with pytest.raises(NetworkError) as caught:
            send()
        assert caught.value.errno == errno.EBADF


@linux_only
def test_payloads_are_not_kept_after_a_send(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    payload = os.urandom(8)
    before = sys.getrefcount(payload)
    send_batch(one.fd(), [payload], [other.local_addr()])
    assert sys.getrefcount(payload) == before


@linux_only
@pytest.mark.parametrize(
    ("size", "seg_size", "expected"),
    [
        (0, 100, [0]),
        (1, 100, [1]),
        (100, 100, [100]),
        (250, 100, [100, 100, 50]),
        (64, 1, [1] * 64),
    ],
)
def test_one_buffer_leaves_as_many_datagrams(
    pair: tuple[UdpSocket, UdpSocket], size: int, seg_size: int, expected: list[int]
) -> None:
    one, other = pair
    data = bytes(i % 251 for i in range(size))
    assert send_segmented(one.fd(), other.local_addr(), data, seg_size) == size
    received = [other.recv_from()[0] for _ in expected]
    assert [len(piece) for piece in received] == expected
    assert b"".join(received) == data
    assert os.get_blocking(one.fd())


@pytest.mark.parametrize("seg_size", [0, -1, 65536])
def test_segments_have_a_size(seg_size: int) -> None:
    with pytest.raises(ValueError, match="seg_size"):
        send_segmented(-1, SocketAddr.localhost(9), b"x", seg_size)


def test_there_are_64_segments_and_65507_bytes_at_most() -> None:
    with pytest.raises(ValueError, match="64 segments"):
        send_segmented(-1, SocketAddr.localhost(9), bytes(65), 1)
    with pytest.raises(DatagramTooLarge):
        send_segmented(-1, SocketAddr.localhost(9), bytes(65508), 2000)


@linux_only
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.ENOPROTOOPT])
def test_a_system_without_segmentation_says_so(
    pair: tuple[UdpSocket, UdpSocket], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(raw_socket._Socket, "sendmsg", failing(code), raising=False)
    one, other = pair
    with pytest.raises(UdpBatchUnsupported, match=r"sendmsg\(UDP_SEGMENT\)"):
        send_segmented(one.fd(), other.local_addr(), b"xy", 1)
    os.fstat(one.fd())


@linux_only
def test_an_ipv6_target_of_an_ipv4_socket_is_refused() -> None:
    with UdpSocket.bind(LOOPBACKS[0]) as sock:
        for send in (
            lambda: send_segmented(sock.fd(), SocketAddr.localhost_v6(9), b"x", 1),
            lambda: send_batch(sock.fd(), [b"x"], [SocketAddr.localhost_v6(9)]),
        ):
            with pytest.raises(NetworkError) as caught:
                send()
            assert caught.value.errno in (errno.EAFNOSUPPORT, errno.EINVAL)
        os.fstat(sock.fd())


@pytest.mark.parametrize("duplicate", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_unsupported_is_both_kinds_of_error_and_can_be_copied(duplicate: Any) -> None:
    error = duplicate(UdpBatchUnsupported("recvmmsg"))
    assert isinstance(error, NetworkError)
    assert isinstance(error, NotImplementedError)
    assert (error.op, error.errno) == ("recvmmsg", errno.ENOSYS)
    assert str(error) == "UdpBatchUnsupported: recvmmsg (ENOSYS)"
