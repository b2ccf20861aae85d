"""What every stream class promises, written once.

A subclass provides the fixture ``make_pair``: a callable that returns two connected streams.
"""

from __future__ import annotations

import errno
import hashlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asleep import signalled_when_asleep, until_asleep

from flare.errors import (
    BrokenPipe,
    ConnectionReset,
    NetworkError,
    Timeout,
    UnexpectedEof,
    ValidationError,
)

DEADLINE = 10.0
BIG = 8 * 1024 * 1024
FLOOD = bytes(32 * 1024 * 1024)  # more than any buffer on the way holds


class Runner(threading.Thread):
    """A thread whose result or exception can be asked for."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as exc:
            self._error = exc

    def result(self) -> Any:
        self.join(DEADLINE)
        assert not self.is_alive(), "still blocked"
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._result


@contextmanager
def handling(signum: int, handler: Callable[[int, Any], Any]) -> Iterator[None]:
    before = signal.signal(signum, handler)
    try:
        yield
    finally:
        signal.signal(signum, before)


OPERATIONS = {
    "read": lambda s: s.read(),
    "read nothing": lambda s: s.read(0),
    "read_into": lambda s: s.read_into(bytearray(4)),
    "read_exact": lambda s: s.read_exact(4),
    "write": lambda s: s.write(b"x"),
    "write_all": lambda s: s.write_all(b"x"),
    "writev": lambda s: s.writev([b"x", b"y"]),
    "shutdown_read": lambda s: s.shutdown_read(),
    "shutdown_write": lambda s: s.shutdown_write(),
    "set_recv_timeout": lambda s: s.set_recv_timeout(0),
    "set_send_timeout": lambda s: s.set_send_timeout(10),
    "set_nonblocking": lambda s: s.set_nonblocking(True),
}


class StreamConformance:
    @pytest.fixture
    def pair(self, make_pair: Callable[[], Any]) -> Iterator[Any]:
        one, other = make_pair()
        with one, other:
            yield one, other

    def test_bytes_go_both_ways(self, pair: Any) -> None:
        one, other = pair
        one.write_all(b"ping")
        assert other.read() == b"ping"
        other.write_all(b"pong")
        assert one.read() == b"pong"

    @pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
    def test_any_bytes_like_object_can_be_written(self, pair: Any, make: Any) -> None:
        one, other = pair
        assert one.write(make(b"abc")) == 3
        one.write_all(make(b"def"))
        assert other.read_exact(6) == b"abcdef"

    def test_items_of_several_bytes_count_as_bytes(self, pair: Any) -> None:
        one, other = pair
        one.write_all(memoryview(bytes(range(8))).cast("I"))
        assert other.read_exact(8) == bytes(range(8))

    def test_writing_nothing_takes_nothing(self, pair: Any) -> None:
        one, other = pair
        assert one.write(b"") == 0
        one.write_all(b"")
        one.write_all(b"x")
        assert other.read() == b"x"

    def test_writev_sends_the_parts_in_order(self, pair: Any) -> None:
        one, other = pair
        assert one.writev([b"ab", bytearray(b"cd"), memoryview(b"ef")]) == 6
        assert other.read_exact(6) == b"abcdef"

    def test_read_returns_at_most_what_was_asked_for(self, pair: Any) -> None:
        one, other = pair
        one.write_all(b"abcdef")
        assert other.read_exact(2) == b"ab"
        assert 1 <= len(other.read(3)) <= 3

    def test_reading_nothing_does_not_wait(self, pair: Any) -> None:
        one, _ = pair
        assert one.read(0) == b""
        assert one.read_exact(0) == b""
        assert one.read_into(bytearray()) == 0

    def test_negative_sizes_are_refused(self, pair: Any) -> None:
        one, _ = pair
        with pytest.raises(ValueError):
            one.read(-1)
        with pytest.raises(ValueError):
            one.read_exact(-1)

    def test_read_into_fills_the_buffer_given(self, pair: Any) -> None:
        one, other = pair
        one.write_all(b"hello")
        buffer = bytearray(b"..........")
        size = other.read_into(memoryview(buffer)[2:7])
        assert buffer == b".." + b"hello"[:size] + b"." * (8 - size)
        one.shutdown_write()
        rest = other.read_exact(5 - size)
        assert len(rest) == 5 - size
        assert other.read_into(buffer) == 0

    def test_a_write_may_take_a_part(self, pair: Any) -> None:
        one, other = pair
        one.set_nonblocking(True)
        taken = one.write(FLOOD)
        assert 0 < taken < len(FLOOD)
        assert len(other.read_exact(taken)) == taken

    def test_write_all_outlasts_a_slow_reader(self, pair: Any) -> None:
        one, other = pair
        data = hashlib.shake_128(b"seed").digest(BIG)
        writer = Runner(lambda: one.write_all(data))
        digest, left = hashlib.sha256(), BIG
        while left:
            piece = other.read(min(left, 10_007))
            assert piece
            digest.update(piece)
            left -= len(piece)
        writer.result()
        assert digest.digest() == hashlib.sha256(data).digest()

    def test_read_exact_gathers_pieces(self, pair: Any) -> None:
        one, other = pair
        data = bytes(range(256)) * 4096
        writer = Runner(
            lambda: [one.write_all(data[i : i + 65_535]) for i in range(0, BIG, 65_535)]
        )
        assert other.read_exact(len(data)) == data
        writer.result()

    def test_read_exact_says_what_came_before_the_end(self, pair: Any) -> None:
        one, other = pair
        one.write_all(b"abc")
        one.shutdown_write()
        with pytest.raises(UnexpectedEof) as caught:
            other.read_exact(8)
        assert caught.value.partial == b"abc"
        assert str(caught.value) == "NetworkError: read_exact: EOF after 3/8 bytes"
        assert isinstance(caught.value, EOFError)
        assert caught.value.code == 0

    def test_half_close_leaves_the_other_direction_open(self, pair: Any) -> None:
        one, other = pair
        one.write_all(b"question")
        one.shutdown_write()
        assert other.read_exact(8) == b"question"
        assert other.read() == b""
        assert other.read() == b""
        other.write_all(b"answer")
        assert one.read_exact(6) == b"answer"
        other.shutdown_write()
        assert one.read() == b""

    def test_nothing_can_be_written_after_shutdown_write(self, pair: Any) -> None:
        one, _ = pair
        one.shutdown_write()
        with pytest.raises(BrokenPipe):
            one.write(b"x")

    def test_shutdown_read_ends_reading(self, pair: Any) -> None:
        one, other = pair
        one.shutdown_read()
        assert one.read() == b""
        one.write_all(b"still writing")
        assert other.read_exact(13) == b"still writing"

    def test_a_read_times_out(self, pair: Any) -> None:
        one, other = pair
        one.set_recv_timeout(20)
        with pytest.raises(Timeout) as caught:
            one.read()
        assert (caught.value.op, caught.value.ms) == ("recv", 20)
        assert isinstance(caught.value, TimeoutError)
        with pytest.raises(Timeout):
            one.read_into(bytearray(1))
        other.write_all(b"late")
        assert one.read_exact(4) == b"late"

    def test_a_receive_timeout_can_be_taken_back(self, pair: Any) -> None:
        one, other = pair
        one.set_recv_timeout(5)
        one.set_recv_timeout(0)
        reader = Runner(one.read)
        until_asleep(reader)
        other.write_all(b"x")
        assert reader.result() == b"x"

    def test_a_write_times_out_and_says_how_much_was_sent(self, pair: Any) -> None:
        one, other = pair
        one.set_send_timeout(20)
        with pytest.raises(Timeout) as caught:
            one.write_all(FLOOD)
        sent = caught.value.sent
        assert (caught.value.op, caught.value.ms) == ("send", 20)
        assert 0 < sent < len(FLOOD)
        one.shutdown_write()
        received = 0
        while piece := other.read(1 << 20):
            received += len(piece)
        assert received == sent

    def test_the_two_timeouts_are_separate(self, pair: Any) -> None:
        one, other = pair
        one.set_send_timeout(5)
        reader = Runner(one.read)
        until_asleep(reader)
        assert reader.is_alive()
        other.write_all(b"x")
        assert reader.result() == b"x"

    def test_negative_timeouts_are_refused(self, pair: Any) -> None:
        one, _ = pair
        with pytest.raises(ValidationError):
            one.set_recv_timeout(-1)
        with pytest.raises(ValidationError):
            one.set_send_timeout(-1)

    def test_a_non_blocking_stream_never_waits(self, pair: Any) -> None:
        one, other = pair
        one.set_recv_timeout(5000)
        one.set_nonblocking(True)
        with pytest.raises(Timeout) as caught:
            one.read()
        assert caught.value.ms == 0
        assert str(caught.value) == "Timeout: recv"
        one.set_nonblocking(False)
        other.write_all(b"x")
        assert one.read() == b"x"

    @pytest.mark.parametrize("operation", ["read", "read_into", "read_exact"])
    def test_close_from_another_thread_wakes_a_blocked_read(
        self, pair: Any, operation: str
    ) -> None:
        one, other = pair
        reader = Runner(lambda: OPERATIONS[operation](one))
        until_asleep(reader)
        one.close()
        with pytest.raises(NetworkError) as caught:
            reader.result()
        assert caught.value.errno == errno.EBADF
        assert other.read() == b""

    def test_close_from_another_thread_wakes_a_blocked_write(self, pair: Any) -> None:
        one, _ = pair
        writer = Runner(lambda: one.write_all(FLOOD))
        until_asleep(writer)
        one.close()
        with pytest.raises(NetworkError) as caught:
            writer.result()
        assert caught.value.errno == errno.EBADF

    def test_the_peer_going_away_ends_a_blocked_write(self, pair: Any) -> None:
        one, other = pair
        writer = Runner(lambda: one.write_all(FLOOD))
        until_asleep(writer)
        other.close()
        with pytest.raises((BrokenPipe, ConnectionReset)):
            writer.result()

    def test_a_reader_overtaken_by_close_never_reads_from_a_later_stream(
        self, make_pair: Callable[[], Any]
    ) -> None:
        for _ in range(20):
            one, other = make_pair()
            reader = Runner(one.read)
            one.close()
            later, fresh = make_pair()
            later.write_all(b"not for you")
            fresh.write_all(b"not for you")
            with pytest.raises(NetworkError) as caught:
                reader.result()
            assert caught.value.errno == errno.EBADF
            for stream in (other, later, fresh):
                stream.close()

    def test_a_signal_does_not_end_a_blocked_read(self, pair: Any) -> None:
        one, other = pair
        handled = threading.Event()
        main = threading.main_thread()

        def interrupt() -> None:
            until_asleep(main)
            signal.pthread_kill(main.ident or 0, signal.SIGUSR1)
            handled.wait(DEADLINE)
            other.write_all(b"after the signal")

        with handling(signal.SIGUSR1, lambda *_: handled.set()):
            helper = Runner(interrupt)
            assert one.read_exact(16) == b"after the signal"
            helper.result()
        assert handled.is_set()

    @pytest.mark.timeout(method="thread")  # SIGALRM is the test's own.
    def test_a_signal_does_not_take_the_timeout_away(self, pair: Any) -> None:
        one, _ = pair
        one.set_recv_timeout(60)
        count = 0

        def handler(*_: Any) -> None:
            nonlocal count
            count += 1

        with handling(signal.SIGALRM, handler):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(Timeout):
                one.read()
        assert count == 1

    def test_a_signal_handler_that_raises_ends_a_blocked_read(self, pair: Any) -> None:
        class Stop(Exception):
            pass

        def handler(*_: Any) -> None:
            raise Stop

        one, other = pair
        with (
            handling(signal.SIGUSR1, handler),
            pytest.raises(Stop),
            signalled_when_asleep(signal.SIGUSR1),
        ):
            one.read()
        other.write_all(b"on we go")
        assert one.read_exact(8) == b"on we go"

    def test_a_signal_handler_may_close_the_stream_it_interrupts(self, pair: Any) -> None:
        one, _ = pair
        with (
            handling(signal.SIGUSR1, lambda *_: one.close()),
            pytest.raises(NetworkError) as caught,
            signalled_when_asleep(signal.SIGUSR1),
        ):
            one.read()
        assert caught.value.errno == errno.EBADF

    @pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
    def test_a_closed_stream_refuses(self, pair: Any, operation: Any) -> None:
        one, _ = pair
        one.close()
        with pytest.raises(NetworkError) as caught:
            operation(one)
        assert caught.value.errno == errno.EBADF

    def test_close_can_be_called_again(self, pair: Any) -> None:
        one, _ = pair
        assert not one.closed
        one.close()
        one.close()
        assert one.closed
        assert one.fileno() == one.as_raw_fd() == -1
        assert "closed" in repr(one)

    def test_with_closes(self, make_pair: Callable[[], Any]) -> None:
        one, other = make_pair()
        with other:
            with one as entered:
                assert entered is one
            assert one.closed
            assert other.read() == b""

    def test_a_leaked_stream_warns_and_closes(self, make_pair: Callable[[], Any]) -> None:
        one, other = make_pair()
        with other:
            leaked = [one]
            del one
            with pytest.warns(ResourceWarning, match=f"unclosed.*{type(other).__name__}"):
                leaked.clear()
            assert other.read() == b""

    def test_one_thread_reads_while_another_writes(self, pair: Any) -> None:
        one, other = pair
        data = hashlib.shake_128(b"both ways").digest(1 << 20)

        def echo() -> None:
            while piece := other.read(30_000):
                other.write_all(piece)
            other.shutdown_write()

        def send() -> None:
            one.write_all(data)
            one.shutdown_write()

        runners = [Runner(echo), Runner(send)]
        assert one.read_exact(len(data)) == data
        assert one.read() == b""
        for runner in runners:
            runner.result()
