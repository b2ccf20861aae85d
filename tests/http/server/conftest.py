"""Fixtures that start servers and connect to them, and see both ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from dispatching import Asleep
from serving import Address, Connect, Peer, Running, Serve, Start

from flare.http.server import ServerConfig


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server for a handler; its ``Running`` is stopped at the end of the test."""
    with ExitStack() as stack:

        def begin(handler: Any, config: ServerConfig | None = None, **options: Any) -> Running:
            running = Running(handler, config, **options)
            stack.callback(running.stop)
            return running

        yield begin


@pytest.fixture
def serve(start: Start) -> Serve:
    """Start a server for a handler and return where it listens."""
    return lambda handler, config=None: start(handler, config).address


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect to a server; closed at the end of the test, before the server is."""
    with ExitStack() as stack:

        def begin(address: Address, **options: Any) -> Peer:
            peer = Peer(address, **options)
            stack.callback(peer.close)
            return peer

        yield begin


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """No takeover but those the test makes."""
    dog = Asleep()
    monkeypatch.setattr("flare.http.server.worker.watchdog", lambda: dog)


@pytest.fixture
def no_exile(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a handler is overtaken, its next call begins on the loop."""
    monkeypatch.setattr("flare.http.server.dispatch._TAKEOVERS", 1 << 30)
