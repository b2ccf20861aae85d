"""Dialling: many addresses raced under one deadline (happy eyeballs, RFC 8305).

Attempts start in the given order, each 250 ms after the one before or as soon as one fails. The
first to connect wins and the others are closed. All of it happens on the calling thread, with
non-blocking sockets and one ``poll``; only the look-up of a name needs a thread of its own, since
nothing else can end it in time.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import TypeVar

from flare.dns import order_happy_eyeballs, resolve
from flare.dns.lookup import start_lookup
from flare.errors import (
    AddressParseError,
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimeout,
    IoError,
    NetworkError,
    ValidationError,
    map_oserror,
)
from flare.net import RawSocket, SocketAddr
from flare.net.raw_socket import MAX_TIMEOUT_MS

__all__ = ["ATTEMPT_DELAY_MS", "connect_any", "connect_blocking", "connect_host"]

ATTEMPT_DELAY_MS = 250
"""The Connection Attempt Delay of RFC 8305 section 5, at the value recommended there."""

_E = TypeVar("_E", bound=NetworkError)

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR)


class _Deadline:
    """A point in time, or none; and what to raise when it has passed."""

    def __init__(self, timeout_ms: int, name: str) -> None:
        if not 0 <= timeout_ms <= MAX_TIMEOUT_MS:
            raise ValidationError("timeout_ms", f"must be 0..{MAX_TIMEOUT_MS}, got {timeout_ms}")
        self.timeout_ms = timeout_ms
        self.name = name
        self._end = time.monotonic() + timeout_ms / 1000 if timeout_ms else None

    def left(self) -> float | None:
        """Seconds left, never negative; ``None`` where there is no limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def error(self, attempts: Sequence[NetworkError] = ()) -> ConnectionTimeout:
        return _with_attempts(ConnectionTimeout(self.name, timeout_ms=self.timeout_ms), attempts)


def connect_host(host: str, port: int, timeout_ms: int) -> tuple[RawSocket, SocketAddr]:
    """Look *host* up and dial what it resolves to, all within *timeout_ms* (0: no limit)."""
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        SocketAddr.unspecified(port)  # a bad port is an error before any look-up
    except AddressParseError as exc:
        raise AddressParseError(name, exc.reason) from None
    deadline = _Deadline(timeout_ms, name)
    if timeout_ms:
        try:
            found = start_lookup(host, wait=deadline.left())
        except IoError as exc:
            raise deadline.error() from exc
        try:
            ips = found.result(deadline.left())
        except TimeoutError as exc:
            raise deadline.error() from exc
    else:
        ips = resolve(host)
    return _race([SocketAddr(ip, port) for ip in order_happy_eyeballs(ips)], deadline)


def connect_any(
    addrs: Sequence[SocketAddr], timeout_ms: int, name: str
) -> tuple[RawSocket, SocketAddr]:
    """Dial *addrs*, in this order, within *timeout_ms* for all of them (0: no limit).

    Returns the connected socket, blocking and with TCP_NODELAY, and the address that answered. An
    error has in ``attempts`` the error of each address that was tried:

    - the one address there was failed, or all failed alike: that class, naming *name*;
    - they failed in different ways: ``NetworkError``, with the last in its text;
    - the time was up: ``ConnectionTimeout``.
    """
    return _race(addrs, _Deadline(timeout_ms, name))


def connect_blocking(addr: SocketAddr) -> RawSocket:
    """Dial *addr* for as long as the system tries."""
    return _race([addr], _Deadline(0, str(addr)))[0]


class _Attempts:
    """The attempts of one race: those under way, by descriptor, and how the others failed."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._open: dict[int, tuple[RawSocket, SocketAddr]] = {}
        self.failed: list[NetworkError] = []

    def __len__(self) -> int:
        return len(self._open)

    def start(self, addr: SocketAddr) -> tuple[RawSocket, SocketAddr] | None:
        """Begin to dial *addr*; returns the connection where there is one at once."""
        family = socket.AF_INET6 if addr.ip.is_v6() else socket.AF_INET
        try:
            raw = RawSocket(family, socket.SOCK_STREAM)
        except NetworkError as exc:
            self.failed.append(exc)
            return None
        try:
            raw.set_nonblocking(True)
            code = raw.sock.connect_ex(addr.to_sockaddr())
            if code in _IN_PROGRESS:
                self._poll.register(raw.fd, select.POLLOUT)
                self._open[raw.fd] = raw, addr
                return None
            return self._judge(raw, addr, code)
        except BaseException:
            raw.close()
            raise

    def wait(self, seconds: float | None) -> tuple[RawSocket, SocketAddr] | None:
        """Wait for news, at most *seconds*; returns the first connection, if there is one."""
        # Rounded up: a poll that returns a little early would be called again for nothing.
        ms = None if seconds is None else min(int(seconds * 1000) + 1, MAX_TIMEOUT_MS)
        for fd, _ in self._poll.poll(ms):
            raw, addr = self._open.pop(fd)
            self._poll.unregister(fd)
            code = raw.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            winner = self._judge(raw, addr, code)
            if winner:
                return winner
        return None

    def _judge(
        self, raw: RawSocket, addr: SocketAddr, code: int
    ) -> tuple[RawSocket, SocketAddr] | None:
        if not code:
            try:
                code = _finish(raw)
            except OSError as exc:
                code = exc.errno or errno.ECONNRESET
        if not code:
            return raw, addr
        raw.close()
        self.failed.append(_attempt_error(code, addr))
        return None

    def close(self) -> None:
        """Close all that are under way, noting each as timed out."""
        for raw, addr in self._open.values():
            raw.close()
            self.failed.append(ConnectionTimeout(str(addr)))
        self._open.clear()


def _race(addrs: Sequence[SocketAddr], deadline: _Deadline) -> tuple[RawSocket, SocketAddr]:
    if not addrs:
        raise ValidationError("addrs", "must hold at least one address")
    attempts = _Attempts()
    upcoming = iter(addrs)
    waiting = len(addrs)
    winner = None
    try:
        next_start = 0.0
        while winner is None:
            failed = len(attempts.failed)
            now = time.monotonic()
            if waiting and (now >= next_start or not attempts):
                waiting -= 1
                next_start = now + ATTEMPT_DELAY_MS / 1000
                winner = attempts.start(next(upcoming))
            elif attempts:
                left = deadline.left()
                if left == 0.0:
                    break
                pause = next_start - now if waiting else None
                limits = [limit for limit in (left, pause) if limit is not None]
                winner = attempts.wait(min(limits, default=None))
            else:
                raise _all_failed(attempts.failed, deadline.name)
            if len(attempts.failed) > failed:
                next_start = 0.0
    finally:
        attempts.close()
    if winner is None:
        raise deadline.error(attempts.failed)
    return winner


def _finish(raw: RawSocket) -> int:
    """Make a connected socket ready for use; returns the errno of what is wrong with it, or 0."""
    sock = raw.sock
    # Where nobody listens at a port of this host's ephemeral range, the system may pick that very
    # port as ours, and TCP connects the socket to itself.
    if sock.getsockname() == sock.getpeername():
        return errno.ECONNREFUSED
    sock.setblocking(True)
    raw.set_tcp_nodelay(True)
    return 0


def _attempt_error(code: int, addr: SocketAddr) -> NetworkError:
    return map_oserror(OSError(code, os.strerror(code)), f"connect {addr}", addr)


def _all_failed(failed: list[NetworkError], name: str) -> NetworkError:
    last = failed[-1]
    if len(failed) == 1 and type(last) is NetworkError:
        return _with_attempts(NetworkError(last.message, last.code), failed)
    kinds = {type(error) for error in failed}
    for kind in (ConnectionRefused, ConnectionTimeout, ConnectionReset):
        if kinds == {kind}:
            return _with_attempts(kind(name), failed)
    codes = {error.code for error in failed}
    message = f"all addresses failed for {name}: {last}"
    return _with_attempts(NetworkError(message, last.code if len(codes) == 1 else 0), failed)


def _with_attempts(error: _E, attempts: Sequence[NetworkError]) -> _E:
    vars(error)["attempts"] = list(attempts)
    if len(attempts) > 1:
        for attempt in attempts:
            error.add_note(str(attempt))
    return error
