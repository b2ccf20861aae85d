"""``stress_dispatch.py`` over HTTP/2: many streams a connection, reset and abandoned at random.

Run by ``test_dispatch_stress.py`` in a process of its own: ``stress_h2.py SECONDS WORKERS SEED``.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import threading
import time
import traceback

import stress_dispatch
from h2_peer import Answer, H2Peer


class Client(stress_dispatch.Client):
    """One thread's worth of HTTP/2 connections, until ``stop``."""

    def _run(self) -> None:
        while not self.stop.is_set():
            try:
                peer = H2Peer(self.address)
            except OSError:
                if not self.ending.is_set():
                    self.wrong.append(traceback.format_exc())
                return
            try:
                self._converse(peer)
            except (OSError, AssertionError):
                if not self.ending.is_set():
                    self.wrong.append(traceback.format_exc())
            finally:
                peer.close()

    def _converse(self, peer: H2Peer) -> None:
        for _ in range(self.random.randint(1, 6)):
            asked: dict[int, tuple[str, str]] = {}
            data = b""
            for _ in range(self.random.choice((1, 2, 5, 20))):
                # Known targets go by the lane, new ones do not.
                kind, name = self._question()
                if self.random.random() < 0.5:
                    kind, name = "fast", "known"
                data += peer.open(f"/{kind}/{name}")
                asked[peer.last] = kind, name
            peer.send(data)
            manner = self.random.random()
            if manner > 0.95:
                if manner > 0.975:
                    option = struct.pack("ii", 1, 0)
                    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
                time.sleep(self.random.uniform(0, 0.01))
                return
            for sid in list(asked):
                if manner > 0.8 and self.random.random() < 0.3:
                    peer.rst(sid)
                    del asked[sid]
            for sid, (kind, name) in asked.items():
                self._judge(peer.read(sid), kind, name)
            peer.await_pong()

    def _judge(self, answer: Answer, kind: str, name: str) -> None:
        if answer.reset == 7 or (answer.status == 503 and answer.get("retry-after")):
            self.refused += 1
            return
        if answer.reset == 8 and self.ending.is_set():
            return  # the server was closed, or its drain's time was over
        expected = 409 if kind == "raise" else 200
        if (answer.status, answer.body, answer.reset) != (expected, name.encode(), None):
            self.wrong.append(f"{kind} {name}: {answer}")
        self.answered += 1


if __name__ == "__main__":
    threading.excepthook = lambda args: traceback.print_exception(args.exc_value)
    random.seed(int(sys.argv[3]))
    stress_dispatch.Client = Client  # type: ignore[misc]
    stress_dispatch.main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
