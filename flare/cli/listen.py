"""Where ``flare serve`` and ``flare demo`` listen: ``--bind``, ``--host`` and ``--port``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flare.cli import CommandError
from flare.cli.tls import tls_of
from flare.errors import AddressInUse, AddressParseError, NetworkError, ValidationError
from flare.http.server import HttpServer, ServerConfig
from flare.http.server.listeners import Listener, adopt_fds, bind_all, inherited_fds
from flare.net import IpAddr, SocketAddr
from flare.tcp import TcpListener

__all__ = ["address_of", "bind", "bind_listeners", "bound_server", "places_of", "url_of"]

# What the fields of a refused address are called on the command line.
_FLAGS = {"fds": "--bind", "path": "--bind", "mode": "--socket-mode"}
_UNIX, _FD = "unix:", "fd://"


def bound_server(arguments: argparse.Namespace, config: ServerConfig) -> HttpServer:
    """A server that listens where and how the flags say."""
    tls = tls_of(arguments)
    fds = _fds_of(arguments)
    if fds:
        with _one_line():
            return HttpServer.from_fds(fds, config, tls=tls)
    mode = _mode_of(arguments)
    addrs = _addresses_of(arguments)
    with _one_line():
        return HttpServer.bind_many(addrs, config, mode=mode, tls=tls)


def bind_listeners(arguments: argparse.Namespace, backlog: int) -> list[Listener]:
    """What ``bound_server`` would listen on, for somebody else to serve on."""
    fds = _fds_of(arguments)
    if fds:
        with _one_line():
            return adopt_fds(fds)
    mode = _mode_of(arguments)
    addrs = _addresses_of(arguments)
    with _one_line():
        return bind_all(addrs, backlog, mode)


def _fds_of(arguments: argparse.Namespace) -> list[int]:
    """The inherited sockets to serve on: those of ``--bind fd://N``, or, where no flag says
    where to listen, those of a service manager."""
    if not arguments.bind:
        if arguments.host is not None or arguments.port is not None:
            return []
        with _one_line():
            return inherited_fds()
    numbers = [text[len(_FD) :] for text in arguments.bind if text.startswith(_FD)]
    if numbers and len(numbers) < len(arguments.bind):
        raise CommandError("--bind: fd://N does not go with other addresses")
    for number in numbers:
        if not (number.isascii() and number.isdigit() and len(number) <= 6):
            raise CommandError(f"--bind fd://{number}: expected a number")
    return [int(number) for number in numbers]


def _addresses_of(arguments: argparse.Namespace) -> list[SocketAddr | os.PathLike[str]]:
    if not arguments.bind:
        host = "127.0.0.1" if arguments.host is None else arguments.host
        return [address_of(host, 8000 if arguments.port is None else arguments.port)]
    if arguments.host is not None or arguments.port is not None:
        raise CommandError("--bind does not go with --host and --port")
    return [_address_in(text) for text in arguments.bind]


def _address_in(text: str) -> SocketAddr | os.PathLike[str]:
    if text.startswith(_UNIX):
        path = text[len(_UNIX) :]
        if not path:
            raise CommandError(f"--bind {text}: there is no path")
        return Path(path)
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (colon and host and port.isascii() and port.isdigit()) or (
        ":" in host and not bracketed
    ):
        raise CommandError(f"--bind {text}: expected HOST:PORT, unix:PATH or fd://N")
    return address_of(host[1:-1] if bracketed else host, int(port), f"--bind {text}")


def _mode_of(arguments: argparse.Namespace) -> int | None:
    text = arguments.socket_mode
    try:
        return None if text is None else int(text, 8)
    except ValueError:
        raise CommandError(f"--socket-mode takes octal digits, got {text!r}") from None


def address_of(host: str, port: int, flag: str | None = None) -> SocketAddr:
    """The address to bind for ``--host`` and ``--port``, or for another *flag* that has both."""
    if not 0 <= port <= 65535:
        raise CommandError(f"{flag or '--port'} takes 0 to 65535, got {port}")
    try:
        return SocketAddr(IpAddr.parse(host), port)
    except AddressParseError:
        pass
    from flare.dns import resolve

    try:
        return SocketAddr(resolve(host)[0], port)
    except (AddressParseError, NetworkError) as error:
        raise CommandError(f"{flag or f'--host {host!r}'}: {error}") from None


def bind(host: str, port: int) -> TcpListener:
    """Listen there, or say in one line why not."""
    addr = address_of(host, port)
    with _one_line():
        return TcpListener.bind_with_options(addr, 1024)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except AddressInUse as error:
        raise CommandError(f"{error.addr} is in use; choose another (port 0 picks one)") from None
    except NetworkError as error:
        raise CommandError(f"cannot listen: {error.message}") from None
    except ValidationError as error:
        raise CommandError(f"{_FLAGS.get(error.field, error.field)}: {error.reason}") from None


def places_of(server: HttpServer) -> str:
    """Where *server* listens, for a person."""
    urls = [url_of(addr, server.scheme) for addr in server.local_addrs()]
    return ", ".join([*urls, *(f"unix:{path}" for path in server.local_paths())])


def url_of(addr: SocketAddr, scheme: str = "http") -> str:
    """The URL a browser on this host can open."""
    ip = addr.ip
    if ip.is_unspecified():
        ip = IpAddr.localhost_v6() if ip.is_v6() else IpAddr.localhost()
    return f"{scheme}://{SocketAddr(ip, addr.port)}/"
