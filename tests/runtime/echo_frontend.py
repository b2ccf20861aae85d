"""A frontend for the tests of the scheduler: answers each line with it, until told to end."""

from __future__ import annotations

import os
import socket

from flare.runtime import INTEREST_READ, Reactor, StopFlag, WorkerStats


class Echo:
    """One loop. ``crash`` as a line ends the worker by an exception."""

    def __init__(self, separate: bool = False) -> None:
        self.separate = separate
        self.copies = 0

    def copy(self) -> Echo:
        self.copies += 1
        return Echo(self.separate)

    def requires_per_worker_listener(self) -> bool:
        return self.separate

    def run_worker(self, listener_fd: int, stopping: StopFlag, stats: WorkerStats) -> None:
        connections: dict[int, socket.socket] = {}
        try:
            self.loop(listener_fd, stopping, stats, connections)
        finally:
            for sock in connections.values():
                sock.close()

    def loop(
        self,
        listener_fd: int,
        stopping: StopFlag,
        stats: WorkerStats,
        connections: dict[int, socket.socket],
    ) -> None:
        listener = socket.socket(fileno=os.dup(listener_fd))
        accepting = True
        with Reactor() as reactor, listener:
            reactor.register(stopping, 1, INTEREST_READ)
            reactor.register_exclusive(listener, 2, INTEREST_READ)
            while not stopping.stopping() and (accepting or connections):
                for event in reactor.poll():
                    if event.token == 1:
                        stopping.acknowledge()
                    elif event.token == 2:
                        self.accept(listener, reactor, connections)
                    else:
                        self.serve(event.token, reactor, connections)
                    stats.live = len(connections)
                if stopping.draining() and accepting:
                    accepting = False
                    reactor.unregister(listener)

    def accept(
        self, listener: socket.socket, reactor: Reactor, connections: dict[int, socket.socket]
    ) -> None:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        connections[sock.fileno() + 10] = sock
        reactor.register(sock, sock.fileno() + 10, INTEREST_READ)

    def serve(self, token: int, reactor: Reactor, connections: dict[int, socket.socket]) -> None:
        sock = connections[token]
        data = sock.recv(1000)
        if data == b"crash\n":
            raise RuntimeError("asked to")
        if data == b"who\n":
            sock.sendall(b"%d\n" % os.getpid())
        elif data:
            sock.sendall(data)
        else:
            reactor.unregister(sock)
            del connections[token]
            sock.close()
