"""Listeners at a path, and whose the file at that path is.

The file outlives the socket unless somebody removes it. It is removed by ``close``, if it still is
the one that ``bind`` made (somebody else may have taken the path over) and this is the process that
made it (a forked child that closes its copy must not take the path from its parent).
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from dataclasses import dataclass, field

from flare.errors import ValidationError, map_oserror
from flare.net.listener import DEFAULT_BACKLOG, SocketListener, accept_borrowed, check_backlog
from flare.net.raw_socket import RawSocket, closed_error
from flare.uds.path import encode_path, path_text
from flare.uds.stream import UnixStream

__all__ = ["UnixListener", "accept_uds_fd"]


class UnixListener(SocketListener[UnixStream]):
    """A listening Unix socket. Use it with ``with``; iterating accepts until it is closed.

    Any thread may ``close`` it; a thread blocked in ``accept`` is woken. Several threads may accept
    at once.
    """

    __slots__ = ("_file", "_path")
    _families = (socket.AF_UNIX,)

    def __init__(self, raw: RawSocket) -> None:
        """Own a socket that listens already, but not its file; see ``bind`` and ``from_fd``."""
        super().__init__(raw)
        self._path = self.queried_local_path()
        self._file: _SocketFile | None = None

    @classmethod
    def bind(cls, path: str | os.PathLike[str]) -> UnixListener:
        """Listen at *path* with a backlog of 128; ``close`` removes the file.

        A socket already there is replaced, also one that is still listened to: its listener keeps
        the connections it has and gets no more. Anything else there raises ``AddressInUse``.
        Another failure is a ``NetworkError``; a path that no socket can have (empty, with a NUL,
        longer than 107 bytes, 103 on macOS) is a ``ValidationError``.

        Who may connect is up to the umask; see *mode* of ``bind_with_options``.
        """
        return cls.bind_with_options(path)

    @classmethod
    def bind_with_options(
        cls,
        path: str | os.PathLike[str],
        backlog: int = DEFAULT_BACKLOG,
        unlink_existing: bool = True,
        cleanup_path: bool = True,
        mode: int | None = None,
    ) -> UnixListener:
        """``bind``, choosing how many connections may wait to be accepted, and more.

        Without *unlink_existing* any file at *path* raises ``AddressInUse``; without *cleanup_path*
        the file stays after ``close``. *mode* is its permission bits, such as ``0o600``; they are
        in force before the first connection can be made.
        """
        name, text = encode_path(path), os.fsdecode(path)
        check_backlog(backlog)
        if mode is not None and not 0 <= mode <= 0o777:
            raise ValidationError("mode", f"must be 0..0o777, got {mode:#o}")
        raw = RawSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        file = None
        try:
            if unlink_existing:
                _unlink_socket(name)
            raw.sock.bind(name)
            file = _SocketFile.at(name)
            if mode is not None:
                os.chmod(name, mode)
            raw.sock.listen(backlog)
            listener = cls(raw)
        except BaseException as exc:
            if file is not None:
                file.remove()
            raw.close()
            if isinstance(exc, OSError):
                raise map_oserror(exc, f"bind {text}", text) from exc
            raise
        listener._path = text
        if cleanup_path:
            listener._file = file
        return listener

    def local_path(self) -> str:
        """The path it was bound to, as given; known also after ``close``."""
        return self._path

    def queried_local_path(self) -> str:
        """The path as the system has it; ``NetworkError`` with EBADF after ``close``."""
        try:
            return path_text(self._raw.sock.getsockname())
        except OSError as exc:
            raise closed_error("getsockname") from exc

    def close(self) -> None:
        """Stop listening and remove the file, if it is ours; idempotent.

        A thread blocked in ``accept`` gets EBADF. A forked process that shares the socket listens
        on, at a path that is gone, except where a thread had to be woken: that ends the listening
        for all. In a forked child the file stays.
        """
        # Before the socket is closed: as long as it is open, no other file can have its inode.
        if self._file is not None:
            self._file.remove()
        super().close()

    def _stream(self, raw: RawSocket, peer: object) -> UnixStream:
        return UnixStream(raw)

    def _local_name(self) -> str:
        return self._path


@dataclass(frozen=True, slots=True)
class _SocketFile:
    """A file we made: its absolute path, its identity, and the process that made it."""

    path: bytes
    device: int
    inode: int
    pid: int = field(default_factory=os.getpid)
    # Taken once, for good: by the one thread that removes the file.
    removed: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def at(cls, name: bytes) -> _SocketFile:
        found = os.lstat(name)
        return cls(os.path.abspath(name), found.st_dev, found.st_ino)

    def remove(self) -> None:
        if self.pid != os.getpid() or not self.removed.acquire(blocking=False):
            return
        try:
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == (self.device, self.inode):
                os.unlink(self.path)
        except OSError:
            pass  # gone already, or in a directory that is not ours any more


def accept_uds_fd(listener_fd: int) -> UnixStream:
    """``UnixListener.accept`` on a borrowed descriptor, which stays open and the caller's."""
    return UnixStream(accept_borrowed(listener_fd)[0])


def _unlink_socket(name: bytes) -> None:
    """Remove a socket at *name*. Where that fails, ``bind`` says why."""
    try:
        if stat.S_ISSOCK(os.lstat(name).st_mode):
            os.unlink(name)
    except OSError:
        pass
