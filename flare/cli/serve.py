"""``flare serve module:handler``."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from flare.cli import CommandError
from flare.errors import AddressInUse, AddressParseError, NetworkError, ValidationError
from flare.http.handler import as_handler_function
from flare.http.request import Request
from flare.http.response import Response
from flare.http.server import HttpServer, ServerConfig
from flare.net import IpAddr, SocketAddr
from flare.tcp import TcpListener

__all__ = ["address_of", "bind", "load_handler", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal. Ctrl-C and SIGTERM drain, and are no failure."""
    handler = load_handler(arguments.app)
    config = ServerConfig(access_log=arguments.access_log)
    if arguments.access_log:
        log_to_stdout()
    if arguments.fd is not None:
        try:
            listener = TcpListener.from_fd(arguments.fd)
        except (NetworkError, ValidationError) as error:
            raise CommandError(f"--fd {arguments.fd}: {error}") from None
    else:
        listener = bind(arguments.host, arguments.port)
    with HttpServer(listener, config) as server:
        workers = max(1, arguments.workers)
        print(
            f"flare: {arguments.app} on {url_of(server.local_addr())}"
            f" ({workers} worker{'s' if workers > 1 else ''}); Ctrl-C stops",
            flush=True,
        )
        try:
            server.serve(handler, num_workers=workers)
        except KeyboardInterrupt:
            pass
        except ValidationError as error:
            raise CommandError(f"--workers: {error.reason}") from None
    return 0


def load_handler(path: str) -> Callable[[Request], Response]:
    """The handler at ``module:name`` (the name may be dotted)."""
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise CommandError(f"expected module:handler, got {path!r}")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise CommandError(f"there is no module {module_name!r} here") from None
        raise CommandError(_import_failure(module_name, error)) from None
    except (Exception, SystemExit) as error:
        raise CommandError(_import_failure(module_name, error)) from None
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CommandError(f"module {module_name!r} has no {name!r}") from None
    try:
        return as_handler_function(found)
    except TypeError as error:
        raise CommandError(f"{path}: {error}") from None


def _import_failure(module_name: str, error: BaseException) -> str:
    """One line about an exception out of the user's module, with the place it came from."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen")
    ]
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    if isinstance(error, SyntaxError):
        where = f" at {error.filename}:{error.lineno}"
    text = " ".join(str(error).split())
    return f"cannot import {module_name!r}: {type(error).__name__}: {text}{where}"


def address_of(host: str, port: int) -> SocketAddr:
    """The address to bind for ``--host`` and ``--port``."""
    if not 0 <= port <= 65535:
        raise CommandError(f"--port takes 0 to 65535, got {port}")
    try:
        return SocketAddr(IpAddr.parse(host), port)
    except AddressParseError:
        pass
    from flare.dns import resolve

    try:
        return SocketAddr(resolve(host)[0], port)
    except (AddressParseError, NetworkError) as error:
        raise CommandError(f"--host {host!r}: {error}") from None


def bind(host: str, port: int) -> TcpListener:
    """Listen there, or say in one line why not."""
    addr = address_of(host, port)
    try:
        return TcpListener.bind_with_options(addr, backlog=1024)
    except AddressInUse:
        raise CommandError(f"{addr} is in use; choose another with --port (0 picks one)") from None
    except NetworkError as error:
        raise CommandError(f"cannot listen on {addr}: {error.message}") from None


def url_of(addr: SocketAddr) -> str:
    """The URL a browser on this host can open."""
    ip = addr.ip
    if ip.is_unspecified():
        ip = IpAddr.localhost_v6() if ip.is_v6() else IpAddr.localhost()
    return f"http://{SocketAddr(ip, addr.port)}/"


def log_to_stdout() -> None:
    """Give ``flare.access`` a handler of its own, unless the application configured logging."""
    logger = logging.getLogger("flare.access")
    logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        output = logging.StreamHandler(sys.stdout)
        output.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(output)
