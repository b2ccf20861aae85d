"""One HTTP/2 connection of a server: its bytes in and out, what it waits for, and its end.

The codec (``flare.http2``) keeps the protocol, ``h2_streams.py`` has the requests in it answered;
here bytes are read and written. All of it happens on the thread that leads the worker, so they have
one owner, and header blocks are encoded in the order they are sent.

While handlers run elsewhere the connection goes on reading. What bounds it: streams that are open
or whose handler still runs, bytes of request bodies that wait (the peer's windows open no further),
and answers that the peer does not take, past which no more requests are begun or read.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from flare.http.cancel import CancelReason
from flare.http.server.h2_streams import H2Streams
from flare.http.server.logs import error_log, escape
from flare.http.server.socket_connection import NEVER_MS
from flare.http.server.wire import Switch
from flare.http2 import Http2Connection, Http2Error
from flare.net import SocketAddr
from flare.runtime.reactor import (
    EVENT_ERROR,
    EVENT_HUP,
    EVENT_WRITABLE,
    INTEREST_READ,
    INTEREST_WRITE,
)

if TYPE_CHECKING:
    from flare.http.server.worker import Worker
    from flare.tls import TlsInfo
    from flare.tls.tls_socket import TlsSocket

__all__ = ["H2Connection"]

_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
)
_ROUNDS_A_TURN = 16  # a connection with more to send gives the others a turn after so many
_READ_BYTES = 64 * 1024
_SEND_BYTES = 64 * 1024


class H2Connection(H2Streams):
    """A connection and its streams. Belongs to its worker's loop."""

    __slots__ = ("_interest", "_upgrading", "_write_due", "at", "read")

    def __init__(
        self,
        worker: Worker,
        sock: socket.socket | TlsSocket,
        token: int,
        peer: SocketAddr,
        tls_info: TlsInfo | None,
    ) -> None:
        super().__init__(worker, sock, token, peer, tls_info)
        self._interest = INTEREST_READ
        self._write_due = NEVER_MS
        self._upgrading = False
        self.read = b""
        """What the lane has before it, from ``at`` on."""
        self.at = 0

    # -- beginning ----------------------------------------------------------------------------

    def begin(self, switch: Switch) -> None:
        """Go on from the first bytes, or from an HTTP/1.1 request that asked for it."""
        if switch.request is not None:
            self._use(
                Http2Connection.from_h2c_upgrade(
                    self._worker.h2_config,
                    switch.request,
                    switch.settings,
                    request_factory=self._factory(),
                    says_continue=self._says_continue(),
                )
            )
            self._out.append(_SWITCHING)
            self._upgrading = True
        if self._worker.draining:
            self._codec.shutdown()
        self._feed(switch.data)
        self._go_on()

    # -- events -------------------------------------------------------------------------------

    def on_event(self, flags: int) -> None:
        """The reactor found the socket ready."""
        if self._lingering:
            self._discard()
            return
        if self._writing and flags & EVENT_WRITABLE:
            self._writing = False
        if self._interest & INTEREST_READ:
            if flags != EVENT_WRITABLE:
                self._read()
        elif flags & (EVENT_HUP | EVENT_ERROR):
            if self._interest:
                self.close(CancelReason.PEER_CLOSED)
            else:
                # It had stopped sending before; whether it still listens, a write will tell.
                self._cancel_all(CancelReason.PEER_CLOSED)
            return
        if self.open:
            self._go_on()

    def _read(self) -> None:
        try:
            data = self.sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close(CancelReason.PEER_CLOSED)
            return
        if data:
            self._worker.tally.bytes_in += len(data)
            if self.read:
                self._feed_rest()
            if self.machine.is_plain and self._worker.takes_lane and not self._is_full():
                self._worker.h2_lane(self, data)
                self._feed_rest()
            else:
                self._feed(data)
        else:
            self._eof = True
            for sid in list(self._intakes):
                self._end_intake(sid)
            self._cancel_all(CancelReason.PEER_CLOSED)

    def _feed_rest(self) -> None:
        """Feed what the lane has left."""
        rest, self.read = self.read[self.at :], b""
        if rest:
            self._feed(rest)

    def _feed(self, data: bytes) -> None:
        try:
            self._codec.feed(data, self._worker.now_ms)
        except Http2Error as error:
            self._give_up(error)

    def resume(self) -> None:
        """Another turn."""
        self._queued = False
        if self.open and not self._lingering:
            self._go_on()

    def _go_on(self) -> None:
        """Do what can be done now, a turn's worth of it, and wait for the right things.

        A handler called on the way may cost this thread the lease: all that is left to do is in
        the connection, and ``await_task`` asks for the turn in which the next leader does it.
        """
        # While it only sends, nothing that is received tells the machine of the time.
        self.machine.set_time(self._worker.now_ms)
        if self.read:
            self._feed_rest()
        self._take_streams()
        if self._intakes:
            for intake in list(self._intakes.values()):
                intake.feed()
        self._run_ready()
        for _ in range(_ROUNDS_A_TURN):
            if not self._flush():
                break
            if not self._pull():
                break
        else:
            self._want_turn()
        if self.open:
            self._settle()

    # -- writing ------------------------------------------------------------------------------

    def _flush(self) -> bool:
        """Send what there is, as far as the socket takes it; whether all of it went."""
        if self._writing:
            return False
        codec, out = self._codec, self._out
        for _ in range(_ROUNDS_A_TURN):
            if not out:
                data = codec.drain(_SEND_BYTES) if not self._upgrading else self._drain_upgrade()
                if not data:
                    return True
                out.append(data)
            self._send(out)
            if out:
                return False
        self._want_turn()
        return False

    def _drain_upgrade(self) -> bytes:
        """What may go to a client that has not gone on yet after the 101. It need not have room
        for more than a little behind that (curl: 32 KiB): the answer waits for its preface."""
        if self.machine.has_begun:
            self._upgrading = False
            return self._codec.drain(_SEND_BYTES)
        return self._codec.drain(0)

    def _want_write(self) -> None:
        if not self._writing:
            self._writing = True
            self._set_write_deadline()

    def _set_write_deadline(self) -> None:
        budget = self._worker.config.write_timeout_ms
        self._write_due = self._worker.now_ms + budget if budget else NEVER_MS

    # -- waiting ------------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        return bool(self._ready or self._running or self._bodies)

    def _settle(self) -> None:
        """Wait for the right things, or end."""
        codec = self._codec
        busy = self._is_busy()
        if not (busy or self._out) and (codec.can_close or (self._eof and not codec.wants_write)):
            self._finish()
            return
        interest = 0 if self._eof else INTEREST_READ
        if self._writing:
            if self._is_owed_much():
                interest = 0
            interest |= INTEREST_WRITE
        if interest != self._interest:
            self._interest = interest
            if interest:
                self._worker.reactor.modify(self.sock, interest)
            else:
                self._worker.reactor.arm_oneshot_hup(self.sock, self.token)
        if busy or codec.active_streams:
            self._idle_at = 0
        elif not self._idle_at:
            self._idle_at = self._worker.idle_deadline
        self.set_deadline(self._next_deadline())

    def _next_deadline(self) -> int:
        at = self._idle_at or NEVER_MS
        if self._writing:
            at = min(at, self._write_due)
        due = self._codec.next_deadline_ms()
        if due is not None:
            at = min(at, due)
        if self._running:
            at = min(at, *[stream.deadline for stream in self._running.values()])
        if self._intakes:
            at = min([at, *[intake.deadline for intake in self._intakes.values()]])
        if self._incoming:
            if len(self._incoming) > self._codec.active_streams:
                self._forget_incoming()
            at = min([at, *self._incoming.values()])
        return at

    def _forget_incoming(self) -> None:
        """Those that were reset, or answered before they were whole."""
        for sid in [sid for sid in self._incoming if not self._codec.stream_is_open(sid)]:
            del self._incoming[sid]

    def _expire(self) -> None:
        now = self._worker.now_ms
        if self._lingering:
            self.close(CancelReason.TIMEOUT)
            return
        if self._writing and self._write_due <= now:
            self._forget_unsent()
            self.close(CancelReason.TIMEOUT)
            return
        try:
            self._codec.tick(now)
        except Http2Error as error:
            self._give_up(error)
        for intake in [i for i in self._intakes.values() if i.deadline <= now]:
            intake.expire()
        for stream in [s for s in self._running.values() if s.deadline <= now]:
            self._give_up_on(stream)
        for sid in [sid for sid, due in self._incoming.items() if due <= now]:
            del self._incoming[sid]
            if self._codec.stream_is_open(sid):
                self._refuse(sid, 408)
        if 0 < self._idle_at <= now:
            self._idle_at = NEVER_MS
            self._codec.shutdown()
        self._go_on()

    # -- the end ------------------------------------------------------------------------------

    def drain(self) -> None:
        """Let the streams that are open finish, refuse others once the peer knows, and end."""
        if self._lingering:
            return
        self.machine.set_time(self._worker.now_ms)
        self._codec.shutdown()
        self._cancel_all(CancelReason.SHUTDOWN)
        self._go_on()

    def _give_up(self, error: Http2Error) -> None:
        """The peer broke the protocol: it is told so, and nothing else."""
        error_log.info("%s: %s", self.peer, escape(str(error)))
        self._abandon_all(CancelReason.PEER_CLOSED)

    def _finish(self) -> None:
        """All is sent: the end."""
        if self._eof:
            self.close()
            return
        if self._interest != INTEREST_READ:
            self._worker.reactor.modify(self.sock, INTEREST_READ)
        self._linger()

    def cut_off(self) -> None:
        """The server ends: the streams that are left learn that they are cut short."""
        if not (self._writing or self._lingering):
            self._codec.send_goaway()
            self._codec.cancel_streams()
            self._out.append(self._codec.drain())
            try:
                self.sock.send(b"".join(self._out))
            except OSError:
                pass
        self.close(CancelReason.SHUTDOWN)

    def _release(self, reason: int) -> None:
        self._abandon_all(reason)
