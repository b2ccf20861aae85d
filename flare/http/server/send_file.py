"""Sending a plain file without reading it: ``sendfile``, a turn's worth at a time.

For sockets of the kernel only: for one that encrypts, or sends by another way, the bytes are read.
So is what is not in memory: the leader must not wait for a disk, so such a part is read as any
streamed body is, by whichever thread dispatch says, and is in memory then.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from typing import TYPE_CHECKING, Final

from flare.http.cancel import CancelReason
from flare.http.server.logs import log_handler_error

if TYPE_CHECKING:
    from flare.http.server.connection import Connection
    from flare.http.server.h1 import H1BodyWriter

__all__ = ["can_send_files", "send_file"]

_TURN_BYTES = 1024 * 1024  # before other connections have their turn
_WINDOW_BYTES = 256 * 1024
_MORE: Final = getattr(socket, "MSG_MORE", 0)
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
# The file cannot be sent this way, so it is read.
_NOT_THIS_WAY = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EOVERFLOW})


def can_send_files(sock: object) -> bool:
    """Whether the system may send files through *sock*."""
    return (
        isinstance(sock, socket.socket)
        and hasattr(os, "sendfile")
        # It has no MSG_NOSIGNAL.
        and signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    )


def send_file(connection: Connection, writer: H1BodyWriter) -> bool | None:
    """Send a turn's worth of ``writer.file``, after what is owed already.

    Whether the body is finished and sent, or ``None`` where the next part is to be read.
    """
    file, worker = writer.file, connection._worker
    assert file is not None
    try:
        fd = file.file.fileno()
    except ValueError:  # it is closed: who reads it finds that, and says so
        fd = -1
    if fd < 0 or not _is_in_memory(fd, file.offset):
        return None
    if connection.wire.out and not _send_head(connection):
        return False
    budget = _TURN_BYTES
    while writer.left:
        if budget <= 0:
            # The socket is writable, so the reactor brings us back in turn.
            connection._want_write()
            return False
        count = min(writer.left, _WINDOW_BYTES)
        if not _is_in_memory(fd, file.offset + count - 1):
            return None
        try:
            sent = os.sendfile(connection.sock.fileno(), fd, file.offset, count)
        except (BlockingIOError, InterruptedError):
            connection._want_write()
            return False
        except OSError as error:
            if error.errno in _NOT_THIS_WAY:
                writer.file = None
                return None
            if error.errno == errno.EIO:
                log_handler_error(writer.request, error, answered=False)
            connection.close(CancelReason.PEER_CLOSED)
            return False
        if not sent:
            writer.file = None
            return None  # it has become shorter
        writer.note_sent(sent)
        worker.tally.bytes_out += sent
        budget -= sent
        if connection._writing:
            connection._set_write_deadline()
    writer.close()
    return connection._end_stream(writer)


def _send_head(connection: Connection) -> bool:
    """Send what is owed, in one packet with what follows; whether all of it went."""
    wire = connection.wire
    data = b"".join(wire.out)
    try:
        sent = connection.sock.send(data, _MORE)  # type: ignore[call-arg]
    except (BlockingIOError, InterruptedError):
        sent = 0
    except OSError:
        connection.close(CancelReason.PEER_CLOSED)
        return False
    connection._worker.tally.bytes_out += sent
    wire.out_bytes -= sent
    if sent == len(data):
        wire.out.clear()
        return True
    wire.out[:] = [memoryview(data)[sent:]]
    connection._want_write()
    return False


def _is_in_memory(fd: int, offset: int) -> bool:
    """Whether a byte of a file can be had without waiting for a disk; true where nobody knows."""
    if _NOWAIT:
        try:
            os.preadv(fd, [bytearray(1)], offset, _NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass
    return True
