"""One HTTP/2 connection, shared by as many threads as have streams on it (RFC 9113).

``flare.http2`` knows the protocol and does no I/O. Here are the bytes, and the threads: no thread
of the connection's own, the ones that wait do its work. ``wait`` is what all of them are in until
they have what they want:

- whoever finds something to send, and nobody sending, sends it;
- whoever finds nobody reading, reads, and feeds what came to the codec, for all streams;
- the others sleep (``sleepers.py``), until their streams have news, or a role is free.

Who leaves, with an answer, an error or its time being up, hands on what it did: it wakes a sleeper
if a role is free that somebody must have. The socket never blocks. A sender that finds it full
reads too, where nobody else does: else both sides could wait for each other for ever.

One lock guards all of the state, the codec's included. It is never held over a system call that
can wait.
"""

from __future__ import annotations

import contextlib
import copy
import select
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from flare.errors import ConnectionReset, NetworkError, Timeout
from flare.http.client.sleepers import Sleepers
from flare.http.client.socket_poll import GONE, SocketPoll
from flare.http.client.timeouts import Clock, Timeouts
from flare.http.client.transport import Stream
from flare.http.errors import HttpProtocolError
from flare.http2.client import Http2ClientConnection
from flare.http2.config import Http2ClientConfig
from flare.http2.errors import Http2Error, Http2ErrorCode
from flare.http2.stream import Stream as H2Stream

if TYPE_CHECKING:
    from flare.http.client.h2_exchange import H2Exchange
    from flare.tls import TlsInfo

__all__ = ["WINDOW_BYTES", "H2Connection", "h2_config"]

WINDOW_BYTES = 256 * 1024
"""What one stream may send unread, and so the most a response holds of its body."""

MAX_STREAMS = 128
# Before the server has said how many it takes; what RFC 9113 section 6.5.2 has it allow at least.
_STREAMS_UNTOLD = 100
_READ_BYTES = 64 * 1024
_DRAIN_BYTES = 128 * 1024
# What is idle for longer may be gone without a word, a NAT's table being short of memory.
_PING_AFTER_SECONDS = 5.0
_PING_WAIT_MS = 2000


def h2_config() -> Http2ClientConfig:
    """What a client announces. A response's head is bounded as in HTTP/1.1, and its time by the
    call's own deadlines; no number of unread bodies can close the connection's window."""
    return Http2ClientConfig(
        initial_window_size=WINDOW_BYTES,
        connection_window_size=MAX_STREAMS * WINDOW_BYTES,
        max_header_list_size=64 * 1024,
        max_header_fields=256,
        settings_ack_timeout_ms=0,
        header_timeout_ms=0,
        write_timeout_ms=0,
        max_body_size=None,
    )


class _Unlocked:
    """``with`` this, the lock is not held."""

    __slots__ = ("_lock",)

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.release()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.acquire()


class H2Connection:
    """A connection to *peer* (``host:port``) over *stream*, which it owns.

    Safe from any thread, but for ``leases``, ``generation`` and ``idle_since``, which are the
    pool's. Over TLS *tls* is what was agreed, and *on_session* is called when there may be a new
    session to keep. *codec* is one that has begun already, after an upgrade.
    """

    shared = True
    upgraded = None

    def __init__(
        self,
        stream: Stream,
        peer: str,
        max_body_bytes: int | None,
        *,
        tls: TlsInfo | None = None,
        on_session: Callable[[], None] | None = None,
        codec: Http2ClientConnection | None = None,
    ) -> None:
        self.peer = peer
        self.tls = tls
        self.max_body_bytes = max_body_bytes
        self.generation = 0
        self.idle_since = 0.0
        self.leases = 0
        self.used = 0
        self.has_answered = False
        self.lock = threading.Lock()  # guards all below
        self._unlocked = _Unlocked(self.lock)
        self.codec = codec or Http2ClientConnection(h2_config())
        self.failure: NetworkError | None = None
        self.capacity = _STREAMS_UNTOLD
        self._stream = stream
        self._on_session = on_session
        self._sleepers = Sleepers(self.lock)
        self._reading = False
        self._read_for: Callable[[], bool] | None = None  # what the reader waits for itself
        self._writing = False
        self._only_writing = False  # waits for room, and does not read
        self._unsent = memoryview(b"")
        self._unflushed = False  # TLS has taken what it could not send
        self._unpolled = tls is not None  # there may be input that no poll tells of
        self._pings = 0
        self._closed = False
        stream.set_nonblocking(True)
        self._reader = SocketPoll(stream.fileno())
        self._writer = SocketPoll(stream.fileno())

    # -- for the pool -------------------------------------------------------------------

    def begin(self) -> H2Exchange:
        """A new exchange, for one request."""
        from flare.http.client.h2_exchange import H2Exchange

        return H2Exchange(self)

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent on it, some time."""
        return self.capacity > 0

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return self.failure is not None

    def is_stale(self, clock: Clock) -> bool:
        """Whether a connection that was idle is of no more use.

        Takes in what has come meanwhile, a farewell perhaps. After some seconds of silence it is
        asked for a sign of life (PING), for which this waits 2 seconds at most.
        """
        with self.lock:
            try:
                while self._read(monotonic()):
                    pass
                if self.capacity and monotonic() - self.idle_since > _PING_AFTER_SECONDS:
                    self._ping(clock)
            except TimeoutError:
                self._fail(NetworkError(f"no sign of life from {self.peer}"))
            except NetworkError:
                pass  # and is of no more use
            return not self.capacity

    def _ping(self, clock: Clock) -> None:
        self._pings += 1
        data = self._pings.to_bytes(8, "big")
        self.codec.send_ping(data)
        limit = min(clock.wait_ms(_PING_WAIT_MS, "waiting for a PING", self.peer), _PING_WAIT_MS)
        patience = Clock(Timeouts.of(limit))
        self.wait(
            lambda: self.failure is not None or not self.codec.ping_pending(data),
            patience, limit, "read", "waiting for a PING",
        )  # fmt: skip

    def close(self) -> None:
        """Say goodbye (GOAWAY) and close. Idempotent; waits for nothing."""
        with self.lock:
            if self.failure is None:
                self._keep_session()
                self.codec.send_goaway()
                self._fail(NetworkError(f"connection to {self.peer} closed"))

    def forget(self) -> None:
        """Close the descriptors and leave the connection to the process that this one forked from.

        The lock may have been held by a thread that is not here.
        """
        self.lock = threading.Lock()
        self._sleepers = Sleepers(self.lock)
        self.failure = NetworkError(f"connection to {self.peer} is of another process")
        self.capacity = 0
        self._closed = True
        self._reader.close()
        self._writer.close()
        if self.tls is None:
            self._stream.close()
        else:
            self._stream.forget()  # type: ignore[attr-defined]

    # -- for exchanges ------------------------------------------------------------------

    def take_in(self, data: bytes) -> None:
        """Take what has come before this had the stream. For an upgrade."""
        with self.lock:
            self._take_in(data or None)

    def stream(self, sid: int) -> H2Stream:
        """What is known of a stream that was opened; the lock is held."""
        return self.codec.connection.streams[sid]

    def next_id(self) -> int:
        """An id for a stream; the lock is held. Raises ``Http2Error`` where none is left."""
        try:
            return self.codec.next_stream_id()
        except Http2Error:
            self.capacity = 0
            raise

    def answered(self) -> None:
        """A response has come; the lock is held."""
        if not self.has_answered:
            self.has_answered = True
            self._keep_session()

    def _keep_session(self) -> None:
        if self._on_session is not None:
            with contextlib.suppress(OSError):
                self._on_session()

    def raise_failure(self) -> None:
        """Raise what the connection ended with, if it did; the lock is held."""
        if self.failure is not None:
            raise copy.copy(self.failure) from self.failure

    def wait(
        self, ready: Callable[[], bool], clock: Clock, limit: int, phase: str, doing: str
    ) -> None:
        """Wait until *ready*, at most *limit* ms, and do the connection's work meanwhile.

        *ready* is asked with the lock held, by any thread, and must become true when the
        connection fails. The lock is held, before and after. Raises ``CallTimeout``.
        """
        if ready():
            return
        want = clock.wait_ms(limit, doing, self.peer)
        end = monotonic() + want / 1000 if want else None
        try:
            while not ready():
                if end is not None and monotonic() >= end:
                    raise clock.wait_error(phase, limit, want, self.peer, doing)
                if not self._writing and self._has_output():
                    self._write(end, ready)
                elif not self._reading:
                    self._read(end, ready)
                else:
                    left = -1 if end is None else max(0.0, end - monotonic())
                    self._sleepers.sleep(ready, left)
        finally:
            self._hand_on()

    def _hand_on(self) -> None:
        """See that somebody does what is to be done; the lock is held."""
        if self.failure is not None:
            return
        unsent = not self._writing and self._has_output()
        if unsent:
            self.send_now()
            unsent = self.failure is None and self._has_output()
        if (unsent or not self._reading) and not self._sleepers.wake_one():
            # Who has one role can take the other, but has to know.
            if not self._reading and self._only_writing:
                self._writer.ring()
            elif unsent and self._reading:
                self._reader.ring()

    def send_now(self) -> None:
        """Send what can be sent at once; the lock is held. A failure shows to who waits."""
        if not self._writing and self._has_output():
            self._write(monotonic())

    def push(self) -> None:
        """``send_now``, and see that somebody does the rest."""
        self.send_now()
        self._hand_on()

    # -- reading and writing; the lock is held before and after -------------------------

    def _has_output(self) -> bool:
        return bool(self._unsent) or self._unflushed or self.codec.wants_write

    def _read(self, end: float | None, ready: Callable[[], bool] | None = None) -> bool:
        """Be the reader: wait for input until *end*, or *ready*, and take it in; whether there was
        any."""
        if self.failure is not None:
            return False
        data: bytes | None = None
        self._reading = True
        self._read_for = ready
        try:
            with self._unlocked:
                data = self._receive(end)
        except NetworkError as exc:
            self._reading = False
            self._fail(self._lost(exc))
        else:
            self._reading = False
            self._take_in(data)
        finally:
            self._reading = False
            self._read_for = None
            self._close_at_last()
        return bool(data)

    def _receive(self, end: float | None) -> bytes | None:
        """What comes until *end*: ``b""`` is the end, ``None`` nothing. The lock is not held."""
        if self._unpolled:
            self._unpolled = False
            try:
                return self._read_all()
            except Timeout:
                pass
        if not self._reader.wait(select.POLLIN, end):
            return None
        try:
            return self._read_all()
        except Timeout:
            return None

    def _read_all(self) -> bytes:
        """All that is here, of TLS every record; ``Timeout`` where it is nothing."""
        data = self._stream.read(_READ_BYTES)
        if self.tls is not None and data:
            while self._stream.pending():  # type: ignore[attr-defined]
                more = self._stream.read(_READ_BYTES)
                if not more:
                    break  # the end, which the next read will find again
                data += more
        return data

    def _take_in(self, data: bytes | None) -> None:
        """Feed what was read to the codec, and wake whom it concerns."""
        if data is None or self.failure is not None:
            return
        if not data:
            self._fail(ConnectionReset(f"{self.peer} (closed by the server)"))
            return
        try:
            self.codec.feed(data)
        except Http2Error as exc:
            self._fail(HttpProtocolError(f"{exc} (from {self.peer})"))
            return
        self._count()
        self._sleepers.wake_ready()

    def _count(self) -> None:
        """How many streams there may be in all, from what the server has said."""
        conn = self.codec.connection
        if conn.goaway_received or conn.failure is not None:
            self.capacity = 0
        else:
            limit = conn.peer.max_concurrent_streams
            self.capacity = min(MAX_STREAMS, _STREAMS_UNTOLD if limit is None else limit)

    def _write(self, end: float | None, ready: Callable[[], bool] | None = None) -> None:
        """Be the writer: send what there is, and read meanwhile; wait for room until *end*, or
        *ready*."""
        if self.failure is not None:
            return
        self._writing = True
        try:
            while self.failure is None and self._has_output():
                if not self._unsent:
                    self._drain()
                with self._unlocked:
                    blocked = not self._send_some()
                if blocked:
                    if (ready is not None and ready()) or (end is not None and monotonic() >= end):
                        return
                    self._wait_for_room(end)
        except NetworkError as exc:
            self._writing = False
            self._fail(self._lost(exc))
        finally:
            self._writing = False
            self._close_at_last()

    def _drain(self) -> None:
        """Take what the codec has to send, which may be what makes room for others."""
        outbox = self.codec.connection.outbox
        queued = outbox.queued_bytes
        self._unsent = memoryview(self.codec.drain(_DRAIN_BYTES))
        if outbox.queued_bytes != queued:
            self._sleepers.wake_ready()
            if self._read_for is not None and self._read_for():
                self._reader.ring()

    def _send_some(self) -> bool:
        """Send a piece; whether any went. The lock is not held."""
        try:
            if self._unsent:
                self._unsent = self._unsent[self._stream.write(self._unsent) :]
                self._unflushed = self.tls is not None
            if self._unflushed and not self._unsent:
                self._stream.write(b"")  # what TLS has of it
                self._unflushed = False
        except Timeout:
            return False
        return True

    def _wait_for_room(self, end: float | None) -> None:
        """Wait until something can be sent, and take in what comes, if nobody else does."""
        reading = not self._reading and not self._sleepers.wake_one()
        events = select.POLLOUT
        if reading:
            self._reading = True
            events |= select.POLLIN
        self._only_writing = not reading
        data: bytes | None = None
        try:
            with self._unlocked:
                if self._writer.wait(events, end) & (select.POLLIN | GONE) and reading:
                    try:
                        data = self._read_all()
                    except Timeout:
                        pass
        finally:
            self._only_writing = False
            if reading:
                self._reading = False
        self._take_in(data)

    def _lost(self, exc: NetworkError) -> NetworkError:
        """The failure of a connection whose stream raised *exc*."""
        if isinstance(exc, ConnectionReset):
            lost: NetworkError = ConnectionReset(self.peer)
        else:
            lost = NetworkError(f"{exc.message} ({self.peer})", exc.code)
        lost.__cause__ = exc
        return lost

    def _fail(self, failure: NetworkError) -> None:
        """The connection is over, for every stream; the lock is held."""
        if self.failure is not None:
            return
        if not self._writing:
            # A GOAWAY, as far as there is room for it.
            with contextlib.suppress(NetworkError):
                if self._stream.write(self._unsent) == len(self._unsent):
                    self._stream.write(self.codec.drain())
        self.failure = failure
        self.capacity = 0
        self._wake_all()
        self._close_at_last()

    def _close_at_last(self) -> None:
        """Close what nobody uses any more; the lock is held."""
        if self.failure is None or self._closed or self._reading or self._writing:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            self._stream.close()
        self._reader.close()
        self._writer.close()

    def cancel(self, sid: int, code: int = Http2ErrorCode.CANCEL) -> None:
        """Forget a stream; one that is not over is reset. Takes the lock, waits for nothing."""
        with self.lock:
            self.codec.discard_stream(sid, code)
            self.push()

    def wake(self) -> None:
        """Let every thread that waits look again. Takes the lock."""
        with self.lock:
            self._wake_all()

    def _wake_all(self) -> None:
        self._sleepers.wake_all()
        self._reader.ring()
        self._writer.ring()

    def __repr__(self) -> str:
        state = "closed" if self.failure is not None else f"streams={self.leases}"
        return f"<H2Connection {self.peer} {state} exchanges={self.used}>"
