"""One HTTP/1.1 connection: requests out, responses in, one after the other (RFC 9112).

The thin I/O round ``ResponseDecoder``. An exchange goes ``exchange`` (the request, and the final
response head), then ``read_body`` until ``b""``; after that ``reusable`` says whether another one
may follow. Whatever fails closes the connection.

A request goes out in one write with its body where that is small. A larger one is sent without
blocking, while the other direction is watched: a server that has its answer ready may stop
reading (RFC 9112 section 9.5), and its answer is then taken instead of an error.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from time import monotonic
from typing import IO, TYPE_CHECKING, NoReturn, TypeVar

from flare.errors import BrokenPipe, ConnectionReset, NetworkError, Timeout, ValidationError
from flare.http.client.content import INLINE_BYTES, Content
from flare.http.client.exchange import Connection, Exchange
from flare.http.client.outgoing import PROXY_FIELD, Outgoing
from flare.http.client.timeouts import Clock, slack_ms
from flare.http.client.transport import Stream
from flare.http.errors import HttpProtocolError
from flare.http.proto.decoder import EndOfMessage, ResponseDecoder
from flare.http.proto.errors import HttpParseError
from flare.http.proto.fields import FieldBlock
from flare.http.proto.framing import UNTIL_CLOSE
from flare.http.proto.h1_leniency import H1LeniencyConfig
from flare.http.proto.heads import H1Limits, ResponseHead

if TYPE_CHECKING:
    from flare.tls import TlsInfo

__all__ = ["READ_BYTES", "H1Connection", "response_limits"]

READ_BYTES = 256 * 1024
"""The most that is read at once, and so the most a download holds of its body."""

A = TypeVar("A")
T = TypeVar("T")

_HEAD_READ_BYTES = 64 * 1024
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL


def response_limits(max_body_bytes: int | None) -> H1Limits:
    """What a response may be: a head of 64 KiB and 256 fields, a body of *max_body_bytes*.

    Bare LFs and folded lines are read (RFC 9112 sections 2.2 and 5.2).
    """
    return H1Limits(
        max_header_size=64 * 1024,
        max_body_size=max_body_bytes,
        max_fields=256,
        h1_leniency=H1LeniencyConfig(allow_lf_only_line_endings=True, allow_obs_fold=True),
    )


class H1Connection:
    """A connection to *peer* (``host:port``) over *stream*, which it owns.

    For one thread at a time. ``sent`` and ``answered`` tell, after a failure, whether any byte of
    the request went out and any of the response came in. Over TLS, *tls* is what was agreed, and
    *on_session* is called when there may be a new session to keep. To a proxy that is asked for
    everything itself, *forward* is the field it knows us by, or nothing; else it is ``None``.
    """

    shared = False
    capacity = 1
    refused = False  # HTTP/1.1 has no way to say so
    wants_h1 = False
    upgraded: tuple[Connection, Exchange] | None = None

    __slots__ = (
        "_complete",
        "_continued",
        "_decoder",
        "_forward",
        "_keep_alive",
        "_on_session",
        "_pid",
        "_poller",
        "_recv_ms",
        "_send_ms",
        "_stream",
        "_until_close",
        "answered",
        "closed",
        "generation",
        "idle_since",
        "leases",
        "peer",
        "sent",
        "tls",
        "trailers",
        "used",
    )

    def __init__(
        self,
        stream: Stream,
        peer: str,
        limits: H1Limits,
        *,
        tls: TlsInfo | None = None,
        on_session: Callable[[], None] | None = None,
        forward: bytes | None = None,
    ) -> None:
        self._stream = stream
        self._pid = os.getpid()
        self._forward = forward
        self.tls = tls
        self._on_session = on_session
        self._decoder = ResponseDecoder(limits)
        self._recv_ms = 0
        self._send_ms = 0
        self._complete = True
        self._continued = False
        self._keep_alive = True
        self._until_close = False
        self._poller: select.poll | None = None
        fd = stream.fileno()
        if fd >= 0:
            self._poller = select.poll()
            self._poller.register(fd, select.POLLIN)
        self.peer = peer
        self.sent = False
        self.answered = False
        self.closed = False
        self.used = 0
        self.trailers: FieldBlock | None = None
        self.idle_since = 0.0
        self.generation = 0
        self.leases = 0

    def begin(self) -> H1Connection:
        """The exchange that follows, which is the connection's only one."""
        return self

    @property
    def reused(self) -> bool:
        """Whether the exchange was not the first one."""
        return self.used > 1

    def is_stale(self, clock: Clock) -> bool:
        """Whether an idle connection has ended, or has bytes nobody asked for."""
        if self._poller is None or not self._poller.poll(0):
            return False
        return self.tls is None or self._has_input()

    def _has_input(self) -> bool:
        """Whether what has arrived over TLS is more than TLS's own business, such as a ticket."""
        try:
            self._stream.set_nonblocking(True)
            self._stream.read(1)  # or the end
        except Timeout:
            self._stream.set_nonblocking(False)
            return False
        except NetworkError:
            pass
        return True

    @property
    def reusable(self) -> bool:
        """Whether the last exchange is over and left the connection fit for another."""
        return (
            self._complete
            and self._keep_alive
            and not self.closed
            and not self._decoder.buffered
            # What came in records behind the last one read, the end too, no poll tells of.
            and (self.tls is None or not self._stream.has_input())  # type: ignore[attr-defined]
        )

    def close(self) -> None:
        """Close the stream. Idempotent. In a child forked during an exchange it is the parent's."""
        if self._pid != os.getpid():
            self.forget()
            return
        try:
            if self._on_session is not None and not self.closed:
                self._on_session()
            self.closed = True
            self._stream.close()
        except OSError:
            pass  # given up anyway, and no caller could do more about it

    cancel = close

    def finish(self) -> None:
        """Nothing is to be done: ``reusable`` tells what is next."""

    def forget(self) -> None:
        """Close the descriptor and leave the connection to the process that this one forked from,
        which a TLS farewell would end."""
        self.closed = True
        if self.tls is None:
            self._stream.close()
        else:
            self._stream.forget()  # type: ignore[attr-defined]

    def exchange(self, request: Outgoing, clock: Clock) -> ResponseHead:
        """Send a request and wait for the final response head; interim ones are skipped.

        With ``request.expect_ms`` above 0 the body is held back until 100 (Continue), or for that
        many ms; where a final head comes instead, it is not sent.
        Blocks until then, or *clock* ends it. Raises ``CallTimeout``, ``HttpProtocolError``,
        ``ConnectionReset``, ``BrokenPipe`` or another ``NetworkError``, or whatever the source of
        the body raised; the connection is closed then.
        """
        self.sent = self.answered = self._complete = False
        self.trailers = None
        self.used += 1
        self._decoder.expect(request.method)
        if self._forward is None:
            line = f"{request.method} {request.target.line} HTTP/1.1\r\n".encode("ascii")
        else:
            line = self._line_for_proxy(request)
        try:
            answer = self._send(line + request.section, request, clock)
            early = answer is not None
            if answer is None:
                answer = self.head(clock)
            if answer.status == 101 and not request.upgrade:
                raise HttpProtocolError(f"101 without being asked for, from {self.peer}")
        except BaseException:
            self.close()
            raise
        self._until_close = answer.framing.kind == UNTIL_CLOSE
        self._keep_alive = (
            answer.keep_alive and not early and not self._until_close and answer.status != 101
        )
        if self._on_session is not None and self.used == 1:
            self._on_session()  # with TLS 1.3 the tickets came before the response
        return answer

    def _line_for_proxy(self, request: Outgoing) -> bytes:
        """The request line with the whole URL (RFC 9112 section 3.2.2), and the proxy's field
        unless the caller has one."""
        target = request.target
        url = f"http://{target.authority}{target.line}"
        line = f"{request.method} {url} HTTP/1.1\r\n".encode("ascii")
        if self._forward and not any(item[0] == PROXY_FIELD for item in request.fields.items):
            line += self._forward
        return line

    def read_body(self, n: int, clock: Clock) -> bytes:
        """The next bytes of the body, about *n* at most; ``b""`` at its end, where ``trailers``
        is set. Blocks and raises as ``exchange``; a body that ends early is
        ``HttpProtocolError``."""
        decoder = self._decoder
        try:
            while not self._complete:
                event = decoder.next_event()
                if event is None:
                    self._receive(n, clock, "reading the body")
                elif isinstance(event, bytes):
                    return event
                elif isinstance(event, EndOfMessage):
                    self.trailers = event.trailers
                    self._complete = True
        except HttpParseError as exc:
            self.close()
            raise self._protocol_error(exc, "in the body") from exc
        except BaseException:
            self.close()
            raise
        return b""

    def read_counted_into(self, buffer: memoryview, clock: Clock) -> int:
        """``read_body`` into *buffer*, past the decoder: how many bytes came, 0 at the end of the
        body and wherever that cannot be done, so that ``read_body`` says more."""
        count = min(len(buffer), self._decoder.counted_left)
        read_into = getattr(self._stream, "read_into", None)
        if not count or read_into is None:
            return 0
        try:
            got: int = self._wait_for(read_into, buffer[:count], 0, clock, "reading the body")
        except BaseException:
            self.close()
            raise
        if got:
            self._decoder.take_counted(got)
        else:
            self._decoder.receive_eof()
        return got

    def head(self, clock: Clock) -> ResponseHead:
        """Wait for the final head. Raises as ``exchange`` does."""
        decoder = self._decoder
        try:
            while True:
                self._receive(_HEAD_READ_BYTES, clock, "waiting for the response")
                while (event := decoder.next_event()) is not None:
                    assert isinstance(event, ResponseHead)
                    if event.status >= 200 or event.status == 101:
                        return event
        except HttpParseError as exc:
            raise self._protocol_error(exc, "waiting for the response") from exc

    def _receive(self, n: int, clock: Clock, doing: str) -> None:
        """Wait for bytes, or for the end, and hand them to the decoder."""
        data = self._wait_for(self._stream.read, n, b"", clock, doing)
        if data:
            self.answered = True
            self._decoder.receive(data)
        else:
            self._decoder.receive_eof()

    def _wait_for(self, read: Callable[[A], T], argument: A, end: T, clock: Clock, doing: str) -> T:
        """``read(argument)``, which waits for bytes at most as long as *clock* lets it; *end* where
        the stream has ended without a word, and may."""
        limit = clock.limits.read
        want = clock.wait_ms(limit, doing, self.peer)
        timeout = _socket_timeout(self._recv_ms, want, limit)
        if timeout != self._recv_ms:
            self._stream.set_recv_timeout(timeout)
            self._recv_ms = timeout
        try:
            return read(argument)
        except Timeout as exc:
            raise clock.wait_error("read", limit, want, self.peer, doing) from exc
        except NetworkError as exc:
            if not self._is_unannounced_end(exc):
                self._fail(exc, doing)
            return end

    def _is_unannounced_end(self, exc: NetworkError) -> bool:
        """Whether *exc* is a TLS connection cut off at TCP, and HTTP itself tells what is missing.

        Not of a body that lasts until the end: anybody on the way can make one (RFC 9112
        section 9.8).
        """
        if self.tls is None:
            return False
        from flare.tls.errors import TlsTruncated

        if not isinstance(exc, TlsTruncated):
            return False
        if self._until_close and self.answered and not self._complete:
            raise HttpProtocolError(
                f"incomplete response from {self.peer}: the connection was cut off "
                "(no TLS close_notify)"
            ) from exc
        return True

    def _send(self, head: bytes, request: Outgoing, clock: Clock) -> ResponseHead | None:
        """Send the request; the response head where it came before the end of that."""
        content, expect_ms = request.content, request.expect_ms
        small = content.source is None and len(content.data) <= INLINE_BYTES and not expect_ms
        first = head + content.data if small and content.data else head
        limit = clock.limits.write
        want = clock.wait_ms(limit, "sending", self.peer)
        timeout = _socket_timeout(self._send_ms, want, limit)
        if timeout != self._send_ms:
            self._stream.set_send_timeout(timeout)
            self._send_ms = timeout
        try:
            count = self._stream.write(first)
        except Timeout as exc:
            raise clock.wait_error("write", limit, want, self.peer, "sending") from exc
        except (BrokenPipe, ConnectionReset) as exc:
            if self.used > 1:
                self._fail(exc, "sending the request")
            return self._answer_after(exc, clock)
        except NetworkError as exc:
            self._fail(exc, "sending the request")
        self.sent = True
        if small and count == len(first):
            return None
        rest = memoryview(first)[count:]
        if expect_ms:
            answer = self._send_rest(rest, None, clock) or self._await_continue(expect_ms, clock)
            if answer is not None:
                return answer
            rest = memoryview(b"")
        return self._send_rest(rest, None if small else content, clock)

    def _await_continue(self, wait_ms: int, clock: Clock) -> ResponseHead | None:
        """The final head that came instead of 100 (Continue); ``None`` to send the body."""
        end = monotonic() + wait_ms / 1000
        self._continued = False
        while not self._continued and (left := int((end - monotonic()) * 1000)) > 0:
            self._recv_ms = clock.wait_ms(left, "waiting for 100 (Continue)", self.peer)
            self._stream.set_recv_timeout(self._recv_ms)
            answer = self._try_answer("waiting for 100 (Continue)")
            if answer is not None:
                return answer
        return None

    def _send_rest(
        self, rest: memoryview, content: Content | None, clock: Clock
    ) -> ResponseHead | None:
        """Send *rest*, then *content*, while watching for an answer."""
        watch = None
        if self._poller is not None:
            watch = select.poll()
            watch.register(self._stream.fileno(), select.POLLIN | select.POLLOUT)
            self._stream.set_nonblocking(True)
        answer = self._send_piece(rest, watch, clock)
        if content is not None and answer is None:
            file = content.plain_file() if hasattr(self._stream, "send_file") else None
            if file is not None and watch is not None:
                answer = self._send_file(file, content.length or 0, watch, clock)
            else:
                for piece in content.pieces():
                    answer = self._send_piece(memoryview(piece), watch, clock)
                    if answer is not None:
                        break
        if watch is not None:
            if self.tls is not None and answer is None:
                # What was taken is encrypted, and a part of a record may still be here.
                answer = self._flush(watch, clock)
            self._stream.set_nonblocking(False)
        return answer

    def _send_file(
        self, file: IO[bytes], length: int, watch: select.poll, clock: Clock
    ) -> ResponseHead | None:
        """Send *length* bytes of a plain file as ``_send_piece`` does, but by the system alone."""
        send: Callable[[int, int, int], int] = self._stream.send_file  # type: ignore[attr-defined]
        position = file.tell()
        end = position + length
        answer = None

        def send_more() -> None:
            nonlocal position
            count = send(file.fileno(), position, end - position)
            if not count:
                raise ValidationError(
                    "body", f"ended {end - position} bytes short of its length, {length}"
                )
            position += count

        while position < end and answer is None:
            answer = self._send_some(send_more, watch, clock)
        file.seek(position)
        return answer

    def _send_piece(
        self, view: memoryview, watch: select.poll | None, clock: Clock
    ) -> ResponseHead | None:
        """Send *view*; the response head where it came before the end of that."""

        def send_more() -> None:
            nonlocal view
            view = view[self._stream.write(view) :]

        while view:
            answer = self._send_some(send_more, watch, clock)
            if answer is not None:
                return answer
        return None

    def _flush(self, watch: select.poll, clock: Clock) -> ResponseHead | None:
        """Send what TLS has taken and not sent yet, while watching for an answer."""
        done = False

        def send_more() -> None:
            nonlocal done
            self._stream.write(b"")
            done = True

        answer = None
        while not done and answer is None:
            answer = self._send_some(send_more, watch, clock)
        return answer

    def _send_some(
        self, send_more: Callable[[], None], watch: select.poll | None, clock: Clock
    ) -> ResponseHead | None:
        """Call *send_more* once there is room; the response head where that has come before."""
        limit = clock.limits.write
        want = clock.wait_ms(limit, "sending", self.peer)
        if watch is not None:
            ready = watch.poll(want or None)
            if ready and ready[0][1] & _READABLE:
                answer = self._try_answer("sending the body")
                if answer is not None or not ready[0][1] & select.POLLOUT:
                    return answer
            elif not ready:
                raise clock.wait_error("write", limit, want, self.peer, "sending")
        try:
            send_more()
        except Timeout as exc:
            if watch is None:
                raise clock.wait_error("write", limit, want, self.peer, "sending") from exc
        except (BrokenPipe, ConnectionReset) as exc:
            return self._answer_after(exc, clock)
        except NetworkError as exc:
            self._fail(exc, "sending the body")
        return None

    def _try_answer(self, doing: str) -> ResponseHead | None:
        """The final head, where it has come; ``None`` where it is not complete."""
        try:
            data = self._stream.read(_HEAD_READ_BYTES)
            while self.tls is not None and self._stream.pending():  # type: ignore[attr-defined]
                data += self._stream.read(_HEAD_READ_BYTES)  # no poll tells of these
        except Timeout:
            return None
        except NetworkError as exc:
            if not self._is_unannounced_end(exc):
                self._fail(exc, doing)
            data = b""
        if data:
            self.answered = True
            self._decoder.receive(data)
        else:
            self._decoder.receive_eof()
        try:
            while (event := self._decoder.next_event()) is not None:
                assert isinstance(event, ResponseHead)
                if event.status >= 200 or event.status == 101:
                    return event
                self._continued = self._continued or event.status == 100
        except HttpParseError as exc:
            raise self._protocol_error(exc, doing) from exc
        return None

    def _answer_after(self, failure: NetworkError, clock: Clock) -> ResponseHead:
        """The response of a server that stopped reading, or the error of that."""
        try:
            if self._poller is not None:
                self._stream.set_nonblocking(False)
            return self.head(clock)
        except NetworkError as exc:
            if self.answered and isinstance(exc, HttpProtocolError):
                raise
            self._fail(failure, "sending the request")

    def _fail(self, exc: NetworkError, doing: str) -> NoReturn:
        """Raise *exc* again, with the peer and what was being done in its text."""
        if isinstance(exc, (ConnectionReset, BrokenPipe)):
            raise type(exc)(f"{self.peer} ({doing})") from exc
        if exc.code == errno.EBADF:
            raise NetworkError(f"connection to {self.peer} closed ({doing})", exc.code) from exc
        raise NetworkError(f"{exc.message} ({doing}, {self.peer})", exc.code) from exc

    def _protocol_error(self, exc: HttpParseError, doing: str) -> NetworkError:
        if exc.variant == HttpParseError.BODY_TOO_LARGE:
            limit = self._decoder.limits.max_body_size
            return NetworkError(
                f"the response from {self.peer} exceeds max_response_bytes, {limit}"
            )
        if exc.variant == HttpParseError.TRUNCATED:
            return HttpProtocolError(
                f"incomplete response from {self.peer}: {exc.detail} ({doing})"
            )
        return HttpProtocolError(
            f"malformed response from {self.peer}: {exc.variant_name()}, {exc.detail} ({doing})"
        )

    def __repr__(self) -> str:
        state = "closed" if self.closed else "idle" if self._complete else "active"
        return f"<H1Connection {self.peer} {state} exchanges={self.used}>"


def _socket_timeout(current: int, want: int, limit: int) -> int:
    """The timeout a socket should have that has *current*, for a wait of *want* ms under *limit*:
    *current* wherever that is near enough, so that nothing needs to be set."""
    if 0 < want <= current and current - want <= 50 and (current <= limit or not limit):
        return current  # the usual case, without asking for the slack
    if 0 < want <= current <= min(limit or current, want + slack_ms(want)):
        return current
    return limit if 0 < limit <= want + slack_ms(want) else want
