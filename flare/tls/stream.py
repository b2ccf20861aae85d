"""Encrypted TCP connections, read and written like any other stream.

A ``TlsStream`` stands on another stream, which waits, times out and wakes at ``close``; between
them is a ``TlsEngine``. That is one ``recv`` for many records, one ``send`` for many, reading and
writing at the same time, and TLS inside TLS, none of which ``ssl.SSLSocket`` can do.

Locks: ``_lock`` guards the engine and is never held over I/O. ``_sending`` is held by whoever sends
what the engine wrote, so that records leave in the order in which they were encrypted. A reader
never waits for it: what reading makes us owe the peer (an answer to a key update) is sent if that
can be done at once, and else by the next write.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from flare.errors import NetworkError, Timeout, ValidationError
from flare.net import SocketAddr
from flare.net.raw_socket import MAX_TIMEOUT_MS, closed_error
from flare.net.stream import DuplexStream, SocketStream
from flare.tcp import TcpStream
from flare.tls import _transport
from flare.tls._subject import subject_of
from flare.tls.client_context import ClientContext, client_context
from flare.tls.config import TlsConfig, TlsVerify
from flare.tls.engine import RECORD_BYTES, TlsEngine
from flare.tls.errors import InsecureTlsWarning, TlsHandshakeError
from flare.tls.info import TlsInfo
from flare.tls.session import TlsSession

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["HANDSHAKE_TIMEOUT_MS", "TlsStream"]

HANDSHAKE_TIMEOUT_MS = 10_000
"""How long a handshake may take where nobody says."""

_TCP_TIMEOUT_MS = 5000
_RECV_BYTES = 64 * 1024
# Encrypted at a time: four records, so that a large write is one system call for each 64 KiB.
_WRITE_BYTES = 4 * RECORD_BYTES
# What a peer that reads nothing can make us owe it, by asking for key updates.
_MAX_OWED_BYTES = 256 * 1024

_T = TypeVar("_T")


class TlsStream(DuplexStream):
    """A TLS connection: a blocking byte stream. Use it with ``with``.

    Reads and writes wait for ever until given a timeout. One thread may read while another writes,
    and any thread may ``close``; the one blocked then gets ``NetworkError`` with EBADF. It belongs
    to one process: a forked child must not use it, or close it.

    The end of the stream is the peer's close_notify. A connection that ends without one raises
    ``TlsTruncated``, since anybody on the way can end it: whoever knows by other means that
    nothing is missing (a length that was reached) may take that for the end.
    """

    __slots__ = (
        "__weakref__",
        "_engine",
        "_lock",
        "_made",
        "_nonblocking",
        "_owed",
        "_recv_ms",
        "_send_ms",
        "_sending",
        "_under",
    )

    def __init__(
        self, under: SocketStream | TlsStream, engine: TlsEngine, made: ClientContext | None = None
    ) -> None:
        """Own *under*, over which *engine* has shaken hands; see ``connect`` and ``TlsAcceptor``.

        Its timeouts stay in force. With *made*, which the engine was made with, it has sessions.
        """
        self._under = under
        self._engine = engine
        self._made = made
        # Reentrant: a signal handler may close the stream whose method it interrupts.
        self._lock = threading.RLock()
        self._sending = threading.Lock()
        self._owed = b""  # encrypted and not sent yet; _sending guards it
        self._recv_ms, self._send_ms = _transport.timeouts(under)
        self._nonblocking = _transport.is_nonblocking(under)

    # -- connecting ---------------------------------------------------------------------

    @classmethod
    def connect(cls, host: str, port: int, config: TlsConfig | None = None) -> TlsStream:
        """Connect to *host* and make sure it is that host.

        Waits 5 seconds for the connection as ``TcpStream.connect`` does, then 10 for the handshake.
        Raises what that raises; ``CertificateExpired``, ``CertificateHostnameMismatch`` and
        ``CertificateUntrusted`` for a certificate that does not do; their base
        ``TlsHandshakeError`` for any other failure of TLS, files of *config* that cannot be used
        among them; ``Timeout``.
        """
        if config is None:
            config = TlsConfig()
        made = _prepare(config)
        tcp = TcpStream.connect(host, port, _TCP_TIMEOUT_MS)
        return cls._begin(tcp, host, config, made, None, HANDSHAKE_TIMEOUT_MS)

    @classmethod
    def connect_timeout(cls, host: str, port: int, config: TlsConfig, timeout_ms: int) -> TlsStream:
        """``connect`` within *timeout_ms* milliseconds for look-up, connection and handshake.

        Raises ``ConnectionTimeout`` where the time ran out before there was a connection, and
        ``Timeout`` of ``"tls handshake"`` after that.
        """
        end = time.monotonic() + timeout_ms / 1000
        made = _prepare(config)
        tcp = TcpStream.connect(host, port, timeout_ms)
        return cls._begin(tcp, host, config, made, None, timeout_ms, end)

    @classmethod
    def connect_over_tcp(
        cls,
        tcp: SocketStream | TlsStream,
        host: str,
        config: TlsConfig,
        *,
        timeout_ms: int = HANDSHAKE_TIMEOUT_MS,
        session: TlsSession | None = None,
    ) -> TlsStream:
        """Do TLS with *host* over a connection there is already, through a proxy for instance.

        *tcp* may itself be encrypted, or a Unix socket. It belongs to the new stream from here on,
        also where this raises, and is then closed; its timeouts stay in force. The handshake may
        take *timeout_ms* milliseconds (0: as long as it likes). *session* as in
        ``connect_resumed``.
        """
        try:
            made = _prepare(config)
        except BaseException:
            tcp.close()
            raise
        return cls._begin(tcp, host, config, made, session, timeout_ms)

    @classmethod
    def connect_resumed(
        cls, host: str, port: int, config: TlsConfig, session: TlsSession
    ) -> TlsStream:
        """``connect``, and resume *session* if that can be: see ``was_session_reused``.

        A session that is empty, too old, or of another host or configuration, or that the server
        does not take, makes it a full handshake.
        """
        made = _prepare(config)
        tcp = TcpStream.connect(host, port, _TCP_TIMEOUT_MS)
        return cls._begin(tcp, host, config, made, session, HANDSHAKE_TIMEOUT_MS)

    @classmethod
    def _begin(
        cls,
        under: SocketStream | TlsStream,
        host: str,
        config: TlsConfig,
        made: ClientContext,
        session: TlsSession | None,
        timeout_ms: int,
        end: float | None = None,
    ) -> TlsStream:
        """Shake hands over *under*, which is closed where that fails."""
        try:
            if not 0 <= timeout_ms <= MAX_TIMEOUT_MS:
                raise ValidationError("timeout_ms", f"must be >= 0, got {timeout_ms}")
            if end is None and timeout_ms:
                end = time.monotonic() + timeout_ms / 1000
            name = _verified_name(config.server_name or host)
            made, ticket = (session and session.usable(made, name)) or (made, None)
            try:
                engine = TlsEngine(made.context, host=name, session=ticket)
            except ValueError as exc:
                raise TlsHandshakeError(f"{name!r} cannot be asked for: {exc}") from exc
            under.set_nonblocking(False)
            _transport.shake_hands(under, engine, timeout_ms, end)
        except BaseException:
            under.close()
            raise
        return cls(under, engine, made if config.enable_session_resumption else None)

    # -- reading ------------------------------------------------------------------------

    def read(self, n: int = RECORD_BYTES) -> bytes:
        """Wait for bytes and return at most *n* of them, of one record; ``b""`` is the end.

        The end is the peer's close_notify. Raises ``TlsTruncated`` where the connection ended
        without one, ``Timeout`` where no whole record came within the receive timeout (none by
        default) or the stream is non-blocking and has none, ``TlsHandshakeError`` where a TLS 1.3
        server turns out to refuse our certificate, ``ConnectionReset``, or ``NetworkError``.
        """
        if n <= 0:
            if n < 0:
                raise ValueError(f"read: n must be >= 0, got {n}")
            self._check_open("recv")
            return b""
        return self._pull(self._engine.read, n)

    def read_into(self, buffer: WriteableBuffer) -> int:
        """Like ``read``, into *buffer*; returns how many bytes came, 0 at the end of the stream."""
        if not memoryview(buffer).nbytes:
            self._check_open("recv")
            return 0
        return self._pull(self._engine.read_into, buffer)

    def _pull(self, take: Callable[[Any], _T | None], target: object) -> _T:
        """What *take* has, fed from below for as long as it has nothing."""
        with self._lock:
            self._check_open("recv")
            got = take(target)
        if got is not None:
            return got
        end = time.monotonic() + self._recv_ms / 1000 if self._recv_ms else None
        shortened = False
        try:
            while True:
                data = self._under.read(_RECV_BYTES)
                with self._lock:
                    self._engine.receive(data)
                    got = take(target)
                if self._engine.output_size:
                    self._send_unasked()
                if got is not None:
                    return got
                # A part of a record, or nothing for us. The timeout is for the whole wait.
                if end is not None and not self._nonblocking:
                    shortened = True
                    _transport.limit_recv(self._under, end)
        except Timeout as exc:
            if shortened and exc.ms != self._recv_ms:
                raise Timeout("recv", self._recv_ms) from exc
            raise
        finally:
            if shortened:
                _transport.restore_recv(self._under, self._recv_ms)

    def pending(self) -> int:
        """How many bytes can be read without waiting, of those that have arrived in this process.

        Ask before waiting for the descriptor to be readable: it does not know of these.
        """
        with self._lock:
            self._check_open("recv")
            return self._engine.pending()

    def has_input(self) -> bool:
        """Whether a read would not wait: there is something ``pending``, or the end has come."""
        with self._lock:
            self._check_open("recv")
            return self._engine.pending() > 0 or self._engine.input_ended

    # -- writing ------------------------------------------------------------------------

    def write(self, data: ReadableBuffer) -> int:
        """Encrypt and send *data*, waiting for room; returns how many bytes were taken.

        That may be fewer than given; ``write_all`` goes on. Raises ``Timeout`` where there was no
        room within the send timeout (none by default), ``BrokenPipe`` where the peer or we have
        ended this direction, ``ConnectionReset``, or ``NetworkError``.

        What was taken cannot be taken back: where the wait ends inside a record, the rest of it
        goes first at the next ``write``, of nothing too (``write(b"")``).
        """
        if type(data) is bytes and len(data) <= RECORD_BYTES:
            return self._write(data)
        with memoryview(data) as view, view.cast("B") as flat:
            return self._write(flat)

    def writev(self, parts: Sequence[ReadableBuffer]) -> int:
        """Like ``write``, of several buffers, in as few records as they fit in."""
        gathered = bytearray()
        for part in parts:
            with memoryview(part) as view, view.cast("B") as flat:
                gathered += flat[: _WRITE_BYTES - len(gathered)]
            if len(gathered) == _WRITE_BYTES:
                break
        return self.write(gathered)

    def _write(self, data: bytes | memoryview) -> int:
        with self._sending:
            self._check_open("send")
            if self._owed:
                self._flush()
            size = len(data)
            if size > RECORD_BYTES:
                size = min(size, RECORD_BYTES if self._nonblocking else _WRITE_BYTES)
                self._wait_for_room()
            elif not size:
                return 0
            with self._lock:
                self._engine.write(data[:size])
                self._owed = self._engine.pending_output()
            try:
                self._flush()
            except Timeout:
                pass  # it is ours now, and goes before the next
        if self._engine.output_size:
            self._send_unasked()  # what a reader could not send while we did
        return size

    def _wait_for_room(self) -> None:
        """Wait until much can be sent at once, where a wait for room may end early.

        So a large write that times out does so between records, and with room for a close_notify.
        """
        if (self._nonblocking or self._send_ms) and not _transport.wait_for_room(
            self._under, 0 if self._nonblocking else self._send_ms
        ):
            self._check_open("send")
            raise Timeout("send", 0 if self._nonblocking else self._send_ms)

    def _flush(self) -> None:
        """Send what is owed; _sending is held."""
        while self._owed:
            sent = self._under.write(self._owed)
            self._owed = self._owed[sent:] if sent < len(self._owed) else b""

    def _send_unasked(self) -> None:
        """Send what the engine wrote by itself, if that can be done at once."""
        if self._engine.output_size + len(self._owed) > _MAX_OWED_BYTES:
            raise NetworkError("TLS read error: the peer asks for answers and takes none")
        if self._sending.acquire(blocking=False):
            try:
                self._flush_now()
            finally:
                self._sending.release()

    def _flush_now(self) -> None:
        """Send what is owed and what the engine wrote, as far as it can be; _sending is held."""
        with self._lock:
            self._owed += self._engine.pending_output()
        sent = _transport.write_now(self._under, self._owed)
        self._owed = self._owed[sent:]

    def _write_now(self, data: bytes) -> int:
        """Take *data* (a few bytes) if that needs no wait; 0 or all of it. Raises nothing."""
        if not self._sending.acquire(blocking=False):
            return 0
        try:
            with self._lock:
                self._engine.write(data)
            self._flush_now()
        except NetworkError:
            return 0
        finally:
            self._sending.release()
        return len(data)

    # -- ending -------------------------------------------------------------------------

    def shutdown_write(self) -> None:
        """Send no more bytes: the peer reads the end of the stream (close_notify).

        Waits for room as ``write`` does. Reading goes on, if the peer goes on: with TLS 1.3 it may
        (RFC 8446 section 6.1), with TLS 1.2 it is to stop at once (RFC 5246 section 7.2.1), though
        many do not. The connection beneath stays open both ways.
        """
        with self._sending:
            self._check_open("shutdown")
            if self._owed:
                self._flush()
            with self._lock:
                self._engine.shutdown()
                self._owed = self._engine.pending_output()
            self._flush()

    def shutdown_read(self) -> None:
        """Take no more bytes: reads find the end of the stream once what is here is read."""
        self._check_open("shutdown")
        with self._lock:
            self._engine.end_input()
        self._under.shutdown_read()

    def close(self) -> None:
        """Say the end (close_notify) and close. Idempotent, and safe while others read or write.

        Waits for nothing: where the connection has no room for the close_notify, or another thread
        is in the middle of sending, the peer sees a cut connection. ``shutdown_write`` first, to be
        sure that it sees the end. A thread blocked in a read or write gets ``NetworkError`` with
        EBADF.
        """
        if self._under.closed:
            return
        if self._sending.acquire(blocking=False):
            try:
                with self._lock:
                    self._engine.shutdown()
                self._flush_now()
                # Input nobody read, such as a TLS 1.3 server's tickets, would turn the end into a
                # reset, and that could overtake what we sent.
                _transport.discard_now(self._under)
            finally:
                self._sending.release()
        self._under.close()

    def forget(self) -> None:
        """Close the descriptor without a word: for a forked child, whose farewell would end the
        connection of its parent. Takes no lock. Idempotent."""
        if isinstance(self._under, TlsStream):
            self._under.forget()
        else:
            self._under.close()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._under.closed

    def _check_open(self, op: str) -> None:
        if self._under.closed:
            raise closed_error(op)

    # -- the stream beneath -------------------------------------------------------------

    def fileno(self) -> int:
        """The descriptor, still owned by the stream; -1 after ``close``. See ``pending``."""
        return self._under.fileno()

    def as_raw_fd(self) -> int:
        """The same as ``fileno``."""
        return self._under.fileno()

    def set_recv_timeout(self, ms: int) -> None:
        """Let each read wait at most *ms* milliseconds for a record; 0, the default, for ever."""
        self._under.set_recv_timeout(ms)
        self._recv_ms = ms

    def set_send_timeout(self, ms: int) -> None:
        """Let each write wait at most *ms* milliseconds for room; 0, the default, is for ever."""
        self._under.set_send_timeout(ms)
        self._send_ms = ms

    def set_nonblocking(self, enabled: bool) -> None:
        """Never wait: what would, raises ``Timeout`` with ``ms`` 0."""
        self._under.set_nonblocking(enabled)
        self._nonblocking = enabled

    def set_nodelay(self, enabled: bool) -> None:
        """Send small writes at once (on by default) or let the system gather them. Of TCP alone."""
        self._tcp("set_nodelay").set_nodelay(enabled)

    def set_keepalive(self, enabled: bool) -> None:
        """Let the system probe a silent peer, at its own (long) intervals. Off by default; of TCP
        alone."""
        self._tcp("set_keepalive").set_keepalive(enabled)

    def peer_addr(self) -> SocketAddr:
        """The address of the other end; known also when it is gone, and after ``close``. Where
        there is none, over a Unix socket, ``NetworkError``."""
        return self._tcp("peer_addr").peer_addr()

    def local_addr(self) -> SocketAddr:
        """The address of this end; ``NetworkError`` over a Unix socket."""
        return self._tcp("local_addr").local_addr()

    def _tcp(self, op: str) -> TcpStream:
        """The connection at the bottom."""
        under = self._under
        while isinstance(under, TlsStream):
            under = under._under
        if not isinstance(under, TcpStream):
            raise NetworkError(f"not over TCP ({op})")
        return under

    # -- what was agreed ----------------------------------------------------------------

    def info(self) -> TlsInfo:
        """What the handshake agreed on, as one value."""
        with self._lock:
            return self._engine.info()

    def tls_version(self) -> str:
        """``"TLSv1.3"`` or ``"TLSv1.2"``."""
        with self._lock:
            return self._engine.version()

    def cipher_suite(self) -> str:
        """The cipher suite, as OpenSSL spells it: ``"TLS_AES_256_GCM_SHA384"``."""
        with self._lock:
            return self._engine.cipher()

    def alpn_selected(self) -> str:
        """The application protocol agreed on; ``""`` where there is none."""
        with self._lock:
            return self._engine.alpn()

    def peer_cert_der(self) -> bytes:
        """The peer's certificate; ``NetworkError`` where it has shown none."""
        with self._lock:
            der = self._engine.peer_certificate()
        if not der:
            raise NetworkError("the peer has shown no certificate")
        return der

    def peer_cert_subject(self) -> str:
        """The subject of the peer's certificate in one line: ``"/C=US/O=Ex/CN=localhost"``.

        For people to read: who the peer is was made sure of by its alternative names. ``/`` and
        ``\\`` inside a value have a ``\\`` before them. ``NetworkError`` where there is none.
        """
        return subject_of(self.peer_cert_der())

    def session(self) -> TlsSession:
        """The newest session the server issued, for ``connect_resumed``.

        Empty on the server's side and with ``enable_session_resumption`` off; in TLS 1.3 also
        before something was read, since tickets come after the handshake, with the data.
        """
        if self._made is None:
            return TlsSession()
        with self._lock:
            found = self._engine.session()
        return TlsSession(found, self._made, self._engine.host) if found else TlsSession()

    def was_session_reused(self) -> bool:
        """Whether the handshake resumed an earlier session."""
        with self._lock:
            return self._engine.session_reused()

    def __del__(self) -> None:
        under = getattr(self, "_under", None)
        if under is not None and not under.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def __repr__(self) -> str:
        if self._under.closed:
            return "<TlsStream closed>"
        return f"<TlsStream {self.tls_version()} over {self._under!r}>"


def _prepare(config: TlsConfig) -> ClientContext:
    """The context for *config*, before anything is opened; warns where it verifies nothing."""
    made = client_context(config)
    if config.verify == TlsVerify.NONE and config.ssl_context is None:
        warnings.warn(
            "[flare TLS SECURITY WARNING] certificate verification is disabled: anybody on the way "
            "can read and alter this connection",
            InsecureTlsWarning,
            stacklevel=3,
        )
    return made


def _verified_name(name: str) -> str:
    """*name* as certificates have it: no root dot (RFC 6066 section 3), no zone."""
    if ":" in name:
        return name.partition("%")[0]
    return name[:-1] if name.endswith(".") else name
