"""The command line: ``demo``, ``serve`` and ``get``.

Each is one module with a ``run(arguments)`` that returns the exit code: 0 for done, 1 for a
network that did not do it, 2 for a command that cannot be meant, 3 for a status that is no 2xx
where a file was wanted (``get -o``), with one line on stderr.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from flare._version import __version__

__all__ = ["CommandError", "main"]


class CommandError(Exception):
    """The command cannot be carried out as given; its text is the one line the user gets, and
    *code* what the process ends with."""

    code = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (default: this process's) and return the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except CommandError as error:
        print(f"flare: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough of it.
        sys.stdout = None
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flare", description="HTTP for plain blocking Python.")
    parser.add_argument("--version", action="version", version=f"flare {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands.add_parser("demo", help="serve a small application and fetch from it"))
    _add_serve(commands.add_parser("serve", help="serve a handler of yours"))
    _add_get(commands.add_parser("get", help="fetch a URL"))
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8080, help="default: %(default)s; 0 picks one")
    parser.add_argument(
        "--https-port",
        type=int,
        help="serve HTTPS there, too; default: 8443 beside 8080, else one that is free",
    )
    parser.add_argument("--no-https", action="store_true", help="serve plain HTTP alone")
    parser.add_argument("--once", action="store_true", help="stop after the table")
    parser.set_defaults(run=_run_demo)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("app", metavar="module:handler", help="where the handler is")
    parser.add_argument("--host", help="default: 127.0.0.1")
    parser.add_argument("--port", type=int, help="default: 8000; 0 picks one")
    parser.add_argument(
        "--bind",
        action="append",
        default=[],
        metavar="WHERE",
        help="HOST:PORT, unix:PATH, or fd://N for an inherited listening socket; repeatable",
    )
    parser.add_argument(
        "--socket-mode", metavar="MODE", help="permissions of Unix sockets, such as 660"
    )
    parser.add_argument(
        "--trusted-proxies",
        default="",
        metavar="LIST",
        help="proxies to believe about clients: addresses, networks and 'unix', with commas",
    )
    parser.add_argument(
        "--forwarded-headers",
        default="x-forwarded-for,x-forwarded-proto",
        metavar="LIST",
        help="the fields that these proxies set; default: %(default)s",
    )
    parser.add_argument(
        "--proxy-protocol", action="store_true", help="they begin with a PROXY header"
    )
    parser.add_argument(
        "--tls-cert", default="", metavar="FILE", help="serve HTTPS: the certificate and its chain"
    )
    parser.add_argument(
        "--tls-key", default="", metavar="FILE", help="its key; default: it is in the same file"
    )
    parser.add_argument(
        "--tls-key-password-file",
        default="",
        metavar="FILE",
        help="where the key is encrypted: the password, on a line of its own",
    )
    parser.add_argument(
        "--tls-client-ca",
        default="",
        metavar="FILE",
        help="let in only clients with a certificate by one of these",
    )
    parser.add_argument(
        "--tls-self-signed",
        action="store_true",
        help="serve HTTPS with a certificate made now, by openssl; for development",
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="event loops; default: %(default)s, in this process"
    )
    parser.add_argument(
        "--worker-kind",
        choices=("auto", "thread", "process"),
        default="auto",
        help="what each of several workers is; default: %(default)s, processes where possible",
    )
    parser.add_argument(
        "--backlog",
        type=int,
        default=1024,
        metavar="N",
        help="connections that may wait to be accepted; default: %(default)s",
    )
    parser.add_argument(
        "--graceful-timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="what requests in progress get when a worker ends; default: %(default)s",
    )
    parser.add_argument(
        "--max-requests",
        type=int,
        default=0,
        metavar="N",
        help="replace a worker process after N requests, and up to a tenth more; default: never",
    )
    parser.add_argument("--reload", action="store_true", help="start anew when a .py file changes")
    parser.add_argument("--access-log", action="store_true", help="a line a request on stdout")
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="of the lines on stderr; debug has tracebacks; default: warning",
    )
    parser.set_defaults(run=_run_serve)


def _add_get(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write it there, once it is whole; needs a 2xx"
    )
    parser.add_argument(
        "-C",
        "--continue",
        dest="resume",
        action="store_true",
        help="with -o: go on where an earlier one stopped",
    )
    parser.add_argument("-i", "--include", action="store_true", help="print the head as well")
    parser.add_argument("-X", "--request", metavar="METHOD", help="default: GET, or POST with -d")
    parser.add_argument("-d", "--data", help="the body; @FILE reads it from a file, @- from stdin")
    parser.add_argument(
        "-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="repeatable"
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--cacert", metavar="FILE", help="trust these certificates alone, for https")
    trust.add_argument("-k", "--insecure", action="store_true", help="trust any server, for https")
    parser.add_argument(
        "--cert", metavar="FILE", help="our own certificate, with its key in the same file"
    )
    parser.add_argument(
        "-x", "--proxy", metavar="URL", help="http, socks5 or socks5h; default: the environment's"
    )
    parser.add_argument(
        "--http2", action="store_true", help="the server speaks HTTP/2, over plain http as well"
    )
    parser.add_argument("--unix-socket", metavar="PATH", help="connect to it in place of the host")
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="default: %(default)s"
    )
    parser.set_defaults(run=_run_get)


# Imported on use: one command does not pay for the others.


def _run_demo(arguments: argparse.Namespace) -> int:
    from flare.cli import demo

    return demo.run(arguments)


def _run_serve(arguments: argparse.Namespace) -> int:
    if arguments.reload:
        from flare.cli import reload

        return reload.run(arguments)
    from flare.cli import serve

    return serve.run(arguments)


def _run_get(arguments: argparse.Namespace) -> int:
    from flare.cli import get

    return get.run(arguments)
