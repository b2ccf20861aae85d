"""TLS without a socket: bytes from the wire go in, bytes for the wire come out.

One engine is one end of one connection: an ``ssl.SSLObject`` between two memory buffers. It does
no I/O, knows no clock and takes no lock, so the same engine serves a blocking stream, a reactor, a
test without sockets, and TLS inside TLS. Whoever drives it

1. hands it what the transport received (``receive``; ``b""`` when that ended),
2. calls ``handshake`` until it is true, then ``read``, ``write`` and ``shutdown``,
3. sends ``pending_output`` after each of these, *also when one of them raised*: that is how the
   alert that says why gets to the peer.

RFC 8446, RFC 5246; what is agreed upon is up to the context.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any

from flare.errors import BrokenPipe, NetworkError
from flare.tls._hello import MAX_HELLO_BYTES, asked_name
from flare.tls._subject import subject_of
from flare.tls.errors import (
    TlsServerError,
    TlsTruncated,
    handshake_error,
    read_error,
    server_error,
)
from flare.tls.info import TlsInfo

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["MAX_HANDSHAKE_BYTES", "RECORD_BYTES", "ServerObject", "TlsEngine"]

MAX_HANDSHAKE_BYTES = 64 * 1024
"""How much a peer may send before the handshake is done: chains of certificates are 10 KiB."""

RECORD_BYTES = 16 * 1024
"""The most that one TLS record holds, and one ``read`` returns."""

# What HTTP over a plain connection begins with: no TLS record begins with a capital letter.
_PLAIN_HTTP = re.compile(rb"[A-Z]{1,16}( |\Z)")
_PLAIN_HTTP_TEXT = b"This port speaks HTTPS: use https:// in the URL.\n"
_PLAIN_HTTP_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Content-Type: text/plain\r\n"
    b"Content-Length: %d\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"%s" % (len(_PLAIN_HTTP_TEXT), _PLAIN_HTTP_TEXT)
)
_HANDSHAKE_RECORD = 0x16
_NO_SUCH_NAME = b"\x15\x03\x03\x00\x02\x02\x70"  # the alert: fatal, unrecognized_name


class ServerObject(ssl.SSLObject):
    """A server's ``SSLObject``, which remembers what the client asked for."""

    sni_host: str = ""


class TlsEngine:
    """One end of a TLS connection, without its transport. For one thread at a time."""

    __slots__ = (
        "_broken",
        "_early",
        "_ended",
        "_eof",
        "_failure",
        "_first",
        "_hello_due",
        "_incoming",
        "_object",
        "_outgoing",
        "_plain",
        "_read_any",
        "_received",
        "_server",
        "_shut",
        "established",
        "host",
    )

    established: bool
    """Whether the handshake is done."""
    host: str
    """The host name or address a client asked for and verified."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        host: str = "",
        session: ssl.SSLSession | None = None,
    ) -> None:
        """The client's end of a connection to *host*, or, with *server_side*, the server's end.

        *session* must be one made with *context*. Raises ``ValueError`` for a *host* that is no
        host name.
        """
        if not server_side and context.check_hostname and not host:
            # ssl refuses this for its sockets only; here it would verify no name at all.
            raise ValueError("a host name to verify is missing")
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        try:
            self._object = context.wrap_bio(
                self._incoming,
                self._outgoing,
                server_side=server_side,
                server_hostname=host or None,
                session=session,
            )
        except TypeError as exc:  # a NUL
            raise ValueError(str(exc)) from exc
        self.host = host
        self._server = server_side
        self._hello_due = server_side
        self._first = b""  # what a client sent, until its hello is complete
        self._plain = b""  # the last word to a client, not OpenSSL's
        self._received = 0
        self._early = bytearray()  # decrypted before it was asked for
        self._failure: NetworkError | None = None  # found while doing that
        self._broken = ""  # why nothing can be read any more
        self._read_any = False
        self._eof = False  # the transport ended
        self._ended = False  # the peer said that it ended, or we gave up reading
        self._shut = False
        self.established = False

    # -- the wire's side ----------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what the transport received; ``b""`` means that it ended."""
        if not data:
            self._eof = True
            self._incoming.write_eof()
        elif not self._eof:
            self._incoming.write(data)
            if not self.established:
                self._received += len(data)
                if self._hello_due:
                    self._first += data

    def end_input(self) -> None:
        """Nothing more is wanted: where the transport ends now, that is no truncation."""
        self._ended = True

    def pending_output(self) -> bytes:
        """Take what is to be sent; ``b""`` where there is nothing."""
        if self._plain:
            data, self._plain = self._plain, b""
            return data
        return self._outgoing.read()

    @property
    def output_size(self) -> int:
        """How many bytes ``pending_output`` would return."""
        return len(self._plain) or self._outgoing.pending

    # -- the handshake ------------------------------------------------------------------

    def handshake(self) -> bool:
        """Go on with the handshake; true when it is done, false where the peer has to speak.

        Raises ``TlsHandshakeError`` or one of its kin as a client, ``TlsServerError`` as a server;
        the connection is of no use then. A client that speaks plain HTTP is answered with a 400.
        """
        if self.established:
            return True
        if self._hello_due and self._first:
            self._look_at_hello()
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            if self._received > MAX_HANDSHAKE_BYTES:
                text = f"a handshake of more than {MAX_HANDSHAKE_BYTES} bytes"
                raise self._handshake_failure(ssl.SSLError(0, text)) from None
            return False
        except ssl.SSLError as exc:
            raise self._handshake_failure(exc) from exc
        self.established = True
        return True

    def _look_at_hello(self) -> None:
        name = asked_name(self._first)
        if name is None:
            if len(self._first) > MAX_HELLO_BYTES:
                raise TlsServerError(f"a ClientHello of more than {MAX_HELLO_BYTES} bytes")
        elif not name.isascii():
            self._plain = _NO_SUCH_NAME
            raise TlsServerError("the client asked for a host name that is not ASCII")
        elif self._first[0] == _HANDSHAKE_RECORD:
            self._hello_due = False
            self._first = b""

    def _handshake_failure(self, exc: ssl.SSLError) -> NetworkError:
        if not self._server:
            return handshake_error(exc, self.host, self._unverified_subject())
        error = server_error(exc)
        if _PLAIN_HTTP.match(self._first):
            self._outgoing.read()  # an alert would be noise in front of the answer
            self._plain = _PLAIN_HTTP_ANSWER
            error.message = "the client speaks plain HTTP, on a port for HTTPS"
        return error

    def _unverified_subject(self) -> str:
        chain: Any = getattr(self._object, "get_unverified_chain", None)  # Python 3.13
        try:
            return subject_of(chain()[0]) if chain else ""
        except (ValueError, IndexError):
            return ""

    # -- the application's side ---------------------------------------------------------

    def read(self, n: int = RECORD_BYTES) -> bytes | None:
        """At most *n* decrypted bytes, of one record; ``b""`` at the end, ``None`` for none yet.

        Raises ``TlsTruncated`` where the transport ended and the peer had not said so, and
        ``NetworkError``, or ``TlsHandshakeError`` where a TLS 1.3 server refused our certificate.
        """
        if self._early:
            data = bytes(self._early[:n])
            del self._early[:n]
            return data
        if self._nothing_to_decrypt():
            return self._nothing_left()
        try:
            data = self._object.read(min(n, RECORD_BYTES))
        except ssl.SSLError as exc:
            return self._read_failure(exc)
        if data:
            self._read_any = True
        else:
            self._ended = True
        return data

    def read_into(self, buffer: WriteableBuffer) -> int | None:
        """Like ``read``, into *buffer*; how many bytes there were, 0 at the end."""
        with memoryview(buffer).cast("B") as view:
            if self._early:
                data = self.read(len(view)) or b""
                view[: len(data)] = data
                return len(data)
            if self._nothing_to_decrypt():
                return None if self._nothing_left() is None else 0
            try:
                size = self._object.read(len(view), view)
            except ssl.SSLError as exc:
                return None if self._read_failure(exc) is None else 0
        if size:
            self._read_any = True
        else:
            self._ended = True
        return size  # type: ignore[return-value]

    def _nothing_to_decrypt(self) -> bool:
        # Saves the exception that OpenSSL would answer with: what it was given it has eaten, and
        # of what it has eaten nothing is left.
        return not self._incoming.pending and not self._object.pending()

    def _nothing_left(self) -> bytes | None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._broken:
            raise NetworkError(self._broken)
        if self._ended:
            return b""
        if self._eof:
            raise TlsTruncated
        return None

    def _read_failure(self, exc: ssl.SSLError) -> bytes | None:
        """What a failed read means: ``None`` for none yet, ``b""`` for the end, or an error."""
        if isinstance(exc, ssl.SSLWantReadError):
            return None
        if isinstance(exc, ssl.SSLZeroReturnError):
            self._ended = True
            return b""
        if self._ended and isinstance(exc, ssl.SSLEOFError):
            return b""
        error = read_error(exc, self.host or "the peer", not self._read_any)
        if not isinstance(error, TlsTruncated):
            self._broken = error.message
        raise error from exc

    def write(self, data: ReadableBuffer) -> int:
        """Encrypt all of *data*; returns its size in bytes. ``BrokenPipe`` after ``shutdown``."""
        if self._shut:
            raise BrokenPipe(self.host)
        try:
            return self._object.write(data) if memoryview(data).nbytes else 0
        except ssl.SSLError as exc:
            raise NetworkError(f"TLS write error: {exc.reason or exc.strerror}") from exc

    def shutdown(self) -> None:
        """Say that we are at our end (close_notify). Reading goes on; writing does not."""
        if self._shut or not self.established:
            return
        # OpenSSL sends the close_notify and then looks for the peer's. It must not find data: that
        # would break the connection.
        self._decrypt_ahead()
        self._shut = True
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # the peer's is not there yet, or the connection failed before

    def _decrypt_ahead(self) -> None:
        try:
            while not self._nothing_to_decrypt():
                data = self._object.read(RECORD_BYTES)
                if not data:
                    self._ended = True
                    return
                self._read_any = True
                self._early += data
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as exc:
            try:
                self._read_failure(exc)
            except NetworkError as error:
                # Kept for the next read, without the frames that would keep us in turn.
                error.__cause__ = error.__context__ = None
                self._failure = error.with_traceback(None)

    def pending(self) -> int:
        """How many bytes can be read with what was received: 0 only where ``read`` has none."""
        if not self._early and self.established:
            if waiting := self._object.pending():
                return waiting
            data = b"" if self._nothing_to_decrypt() else self._look_ahead()
            self._early += data
        return len(self._early)

    @property
    def input_ended(self) -> bool:
        """Whether the end has come, as far as ``pending`` or ``read`` has looked."""
        return self._ended or self._eof

    def _look_ahead(self) -> bytes:
        try:
            return self.read() or b""
        except NetworkError as error:
            error.__cause__ = error.__context__ = None
            self._failure = error.with_traceback(None)
            return b""

    # -- what was agreed ----------------------------------------------------------------

    def version(self) -> str:
        """``TLSv1.3`` or ``TLSv1.2``."""
        return self._object.version() or ""

    def cipher(self) -> str:
        """The cipher suite's name, as OpenSSL spells it."""
        found = self._object.cipher()
        return found[0] if found else ""

    def alpn(self) -> str:
        """The application protocol agreed upon; ``""`` for none."""
        return self._object.selected_alpn_protocol() or ""

    def sni_host(self) -> str:
        """The host name that was asked for, in lower case; ``""`` for none."""
        if self._server:
            return getattr(self._object, "sni_host", "")
        return "" if _is_address(self.host) else self.host.lower()

    def peer_certificate(self) -> bytes:
        """The peer's certificate in DER; ``b""`` where it has shown none."""
        return self._object.getpeercert(True) or b"" if self.established else b""

    def session(self) -> ssl.SSLSession | None:
        """The newest session that can be resumed, where there is one."""
        found = self._object.session
        if found is None or not (found.has_ticket or (found.id and self.version() == "TLSv1.2")):
            return None
        return found

    def session_reused(self) -> bool:
        """Whether the handshake resumed a session."""
        return bool(self._object.session_reused)

    def info(self) -> TlsInfo:
        """What was agreed, as one value."""
        client = self.peer_certificate() if self._server else b""
        return TlsInfo(
            self.version(),
            self.cipher(),
            self.sni_host(),
            self.alpn(),
            subject_of(client) if client else "",
            client,
        )


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
