"""A reactor on each of the four system interfaces, and sockets for it to watch."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from fake_kqueue import FAKE

from flare.runtime import Reactor, _pollers, reactor
from flare.runtime.uring import UringPoller, is_bufring_available

POLLERS: dict[str, Any] = {
    "epoll": _pollers.EpollPoller,
    "kqueue": lambda waker: _pollers.KqueuePoller(waker, FAKE),
    "poll": _pollers.PollPoller,
    "io_uring": UringPoller,
}


@pytest.fixture(params=POLLERS)
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each kind of poller in turn, and the one new reactors are given."""
    if request.param == "epoll" and not hasattr(select, "epoll"):
        pytest.skip("needs Linux's epoll")
    if request.param == "kqueue" and not hasattr(select, "POLLRDHUP"):
        pytest.skip("the stand-in for kqueue needs POLLRDHUP")
    if request.param == "io_uring" and not is_bufring_available():
        pytest.skip("needs a Linux kernel that lets us use io_uring")
    monkeypatch.setattr(reactor, "new_poller", POLLERS[request.param])
    return str(request.param)


@pytest.fixture
def r(poller: str) -> Iterator[Reactor]:
    with Reactor() as made:
        yield made


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        yield a, b


@pytest.fixture
def tcp() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname())
        b, _ = listener.accept()
    with a, b:
        a.setblocking(False)
        yield a, b
