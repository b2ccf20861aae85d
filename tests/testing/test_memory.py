"""What the in-memory stream promises beyond the conformance suite."""

from __future__ import annotations

import pytest

from flare.errors import BrokenPipe, NetworkError, Timeout
from flare.io import Readable
from flare.testing.memory import MemoryStream


def test_a_pair_holds_as_much_as_it_was_told_to() -> None:
    one, other = MemoryStream.pair(capacity=4)
    with one, other:
        assert one.write(b"abcdef") == 4
        one.set_nonblocking(True)
        with pytest.raises(Timeout):
            one.write(b"e")
        assert other.read(1) == b"a"
        assert one.write(b"ef") == 1
        assert other.read() == b"bcde"


def test_the_capacity_must_be_positive() -> None:
    with pytest.raises(ValueError, match="capacity"):
        MemoryStream.pair(capacity=0)


def test_what_was_written_before_close_can_still_be_read() -> None:
    one, other = MemoryStream.pair()
    with other:
        with one:
            one.write_all(b"last words")
        assert other.read() == b"last words"
        assert other.read() == b""


def test_a_peer_that_stopped_reading_breaks_the_pipe() -> None:
    one, other = MemoryStream.pair()
    with one, other:
        other.shutdown_read()
        with pytest.raises(BrokenPipe):
            one.write(b"x")


def test_it_is_readable() -> None:
    one, other = MemoryStream.pair()
    with one, other:
        assert isinstance(one, Readable)


def test_a_close_between_the_look_and_the_wait_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = MemoryStream.pair()
    changed = one._incoming.changed
    wait = changed.wait

    def close_and_wait(timeout: float | None = None) -> bool:
        one.close()  # as a signal handler may, under the lock that its thread holds already
        return wait(timeout)

    monkeypatch.setattr(changed, "wait", close_and_wait)
    with other, pytest.raises(NetworkError):
        one.read()
