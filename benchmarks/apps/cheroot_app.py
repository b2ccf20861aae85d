"""The WSGI application on cheroot, as a program: its own command cannot raise the number of
connections that are kept alive above 10."""

from __future__ import annotations

import argparse

from cheroot.wsgi import Server  # type: ignore[import-not-found,unused-ignore]

from benchmarks.apps.common import KEEP_ALIVE_SECONDS
from benchmarks.apps.wsgi import app


def main() -> None:
    parser = argparse.ArgumentParser(prog="cheroot_app")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    arguments = parser.parse_args()
    server = Server(
        ("127.0.0.1", arguments.port),
        app,
        numthreads=arguments.threads,
        max=arguments.threads,
        request_queue_size=1024,
        timeout=KEEP_ALIVE_SECONDS,
    )
    server.keep_alive_conn_limit = arguments.connections
    try:
        server.start()
    except KeyboardInterrupt:
        server.stop()


if __name__ == "__main__":
    main()
