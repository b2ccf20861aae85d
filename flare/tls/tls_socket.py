"""A TLS connection with the face of a non-blocking socket, for the loop of a server.

It stands between two memory buffers (``engine.py``) and not on the descriptor as ``ssl.SSLSocket``
does: one ``recv`` brings in whole records instead of a header and then a body, and one ``send``
takes everything away that was encrypted.

The one module beside ``engine.py`` that looks inside a ``TlsEngine``: each call here is made for
every request.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final, Protocol

from flare.errors import ConnectionReset
from flare.tls.engine import RECORD_BYTES, TlsEngine

__all__ = ["LEAST_RECV", "PlainSocket", "TlsSocket"]

_RECORD_OVERHEAD = 5 + 256  # RFC 8446 section 5.2; OpenSSL sends less
LEAST_RECV: Final = RECORD_BYTES + _RECORD_OVERHEAD
"""What to receive at least, in bytes: the largest record."""
_MOST_AT_ONCE: Final = 128 * 1024
_MOST_UNSENT = 64 * 1024


class PlainSocket(Protocol):
    """What is asked of the transport: a non-blocking socket has it all."""

    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: Any, /) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def setsockopt(self, level: int, option: int, value: Any, /) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class TlsSocket:
    """The encrypted stream on *raw*, which it owns, after the handshake of *engine*. What that has
    left to be sent goes at once.

    Never blocks: where nothing can be done now a call raises ``BlockingIOError``, and the
    descriptor tells when it can. Failures, of TLS too, are ``OSError``. For one thread at a time.
    """

    __slots__ = (
        "_core",
        "_covers",
        "_ended",
        "_incoming",
        "_object",
        "_outgoing",
        "_owed",
        "_raw",
        "_shut",
    )

    def __init__(self, raw: PlainSocket, engine: TlsEngine) -> None:
        self._raw = raw
        self._object = engine._object
        # What its read and write call, and nothing but that.
        self._core: Any = getattr(engine._object, "_sslobj", engine._object)
        self._incoming = engine._incoming
        self._outgoing = engine._outgoing
        # Encrypted and not yet sent, and how much of what `send` was given that stands for.
        self._owed: memoryview | None = None
        self._covers = 0
        self._ended = False
        self._shut = False
        self._push()

    # -- receiving ----------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """All that is here, decrypted, which may be more than *size* bytes: what stayed in TLS
        would not make the descriptor readable. ``b""`` at the end, announced or not."""
        if self._ended:
            return b""
        return self.decrypt(self._raw.recv(LEAST_RECV if size < LEAST_RECV else size))

    def received(self) -> bytes:
        """What came with the end of the handshake, like ``recv``; ``b""`` for nothing."""
        try:
            return self.decrypt(self._incoming.read()) if self._incoming.pending else b""
        except BlockingIOError:
            return b""

    def decrypt(self, data: bytes) -> bytes:
        """What ``recv`` would return, had it received *data*; ``b""`` at the end."""
        if self._ended or not data:
            self._ended = True
            return b""
        incoming, read = self._incoming, self._core.read
        incoming.write(data)
        more: list[bytes] | None = None
        try:
            data = read(RECORD_BYTES)
            if data and not incoming.pending and not self._outgoing.pending:
                return data  # one record and nothing else, as nearly always
            more = []
            while data and incoming.pending:
                more.append(data)
                data = read(RECORD_BYTES)
            if not data:
                self._end()
        except ssl.SSLWantReadError:
            data = b""
            if not more:
                self._answer()
                raise BlockingIOError from None
        except ssl.SSLError as error:
            data = b""
            self._end()
            self._answer()  # with the alert that says why
            if not more and not isinstance(error, ssl.SSLZeroReturnError):
                raise
        if self._outgoing.pending:
            self._answer()
        if more:
            more.append(data)
            return b"".join(more)
        return data

    def _end(self) -> None:
        """Nothing more will come; let the descriptor say so, since the data before comes first."""
        self._ended = True
        try:
            self._raw.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    def _answer(self) -> None:
        """Send what TLS has to say on its own; a peer must not make it grow without end."""
        self._push()
        if self._outgoing.pending > _MOST_UNSENT:
            raise ConnectionReset("the peer, which asks for key updates and does not read")

    # -- sending ------------------------------------------------------------------------

    def send(self, data: Any) -> int:
        """Encrypt and send *data*, or a part of it; how much has gone.

        What could not go is kept encrypted, so after a ``BlockingIOError`` or a short count the
        next call must be given what follows the part that has gone.
        """
        if self._owed is not None:
            reported = self._send_owed()
            if reported:
                return reported
        if len(data) > _MOST_AT_ONCE:
            data = memoryview(data)[:_MOST_AT_ONCE]
        size = self._core.write(data)
        encrypted = self._outgoing.read()
        try:
            sent = self._raw.send(encrypted)
        except (BlockingIOError, InterruptedError):
            sent = 0
        return size if sent == len(encrypted) else self.sent(sent, encrypted, size)

    def encrypt(self, data: bytes) -> bytes:
        """*data*, at most ``RECORD_BYTES`` of it, for the transport, which must be given it next.
        Only where all that was sent before has gone."""
        self._core.write(data)
        encrypted = self._outgoing.read()
        if self._owed is not None:  # TLS's own
            encrypted = bytes(self._owed) + encrypted
            self._owed = None
        return encrypted

    def sent(self, sent: int, encrypted: bytes, size: int) -> int:
        """The transport took *sent* bytes of *encrypted*, which stands for *size*, and not all:
        what ``send`` returns or raises then."""
        self._owed = memoryview(encrypted)
        self._covers = size
        return self._report(sent)

    def sendmsg(self, buffers: Sequence[Any]) -> int:
        """``send`` *buffers*, one after the other."""
        room = _MOST_AT_ONCE
        pieces = []
        for buffer in buffers:
            if len(buffer) >= room:
                pieces.append(memoryview(buffer)[:room])
                break
            pieces.append(buffer)
            room -= len(buffer)
        return self.send(b"".join(pieces))

    def _send_owed(self) -> int:
        """Send what is owed. 0 where all has gone and none of it was ``send``'s."""
        assert self._owed is not None
        return self._report(self._raw.send(self._owed))

    def _report(self, sent: int) -> int:
        """*sent* bytes of what is owed have gone: how much of what was to be sent that is."""
        owed, covers = self._owed, self._covers
        assert owed is not None
        left = len(owed) - sent
        if not left:
            self._owed = None
            self._covers = 0
            return covers
        self._owed = owed[sent:]
        # In proportion, so that a slow peer is seen to go on; the last byte comes at the end.
        reported = covers * sent // len(owed)
        if not reported:
            raise BlockingIOError
        self._covers = covers - reported
        return reported

    def _push(self) -> None:
        """Send what TLS has to say on its own, as far as that goes now."""
        if self._owed is not None or not self._outgoing.pending:
            return
        encrypted = self._outgoing.read()
        try:
            sent = self._raw.send(encrypted)
        except OSError:  # if it is more than want of room, receiving tells
            sent = 0
        if sent < len(encrypted):
            self._owed = memoryview(encrypted)[sent:]

    # -- the end ------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """Say that we are at our end (close_notify), where *how* is that, and shut down."""
        if how != socket.SHUT_RD:
            self._say_goodbye()
        self._raw.shutdown(how)

    def close(self) -> None:
        """Say so and close, waiting for nothing. Idempotent."""
        if self._raw.fileno() >= 0 and self._owed is None:
            self._say_goodbye()
        self._raw.close()

    def _say_goodbye(self) -> None:
        if self._shut:
            return
        self._shut = True
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # the peer's is not there yet, or the connection failed before
        self._push()

    # -- the rest of a socket -----------------------------------------------------------

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """As that of a socket."""
        self._raw.setsockopt(level, option, value)

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return self._raw.fileno()
