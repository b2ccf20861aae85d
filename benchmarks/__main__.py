"""``python -m benchmarks server``, ``tls``, ``h2`` and ``client``: see docs/benchmark.md."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from benchmarks import client, h2, server, tls
from benchmarks.environment import SetupError


def main() -> int:
    """Run a subcommand. Whatever ends it, what it has started is ended too."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Compare flare with its peers."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("server", help="HTTP/1.1 servers, by wrk")
    server.add_arguments(command)
    command.set_defaults(run=server.run)
    command = commands.add_parser("tls", help="HTTPS servers, by wrk")
    tls.add_arguments(command)
    command.set_defaults(run=tls.run)
    command = commands.add_parser("client", help="HTTP/1.1 clients, of nginx")
    client.add_arguments(command)
    command.set_defaults(run=client.run)
    command = commands.add_parser("h2", help="HTTP/2 servers, by h2load, and decoders of HPACK")
    h2.add_arguments(command)
    command.set_defaults(run=h2.run)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    try:
        status: int = arguments.run(arguments)
    except SetupError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not cut the clearing up short
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
