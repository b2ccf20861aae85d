"""A protocol of one's own in two worker processes at one port, and a drain.

python examples/scheduler.py
"""

import os
import socket

from flare import INTEREST_READ, Reactor, SocketAddr, TcpStream
from flare.runtime import Scheduler, StopFlag, WorkerStats


class Clerk:
    """Answers each connection with the number of its process."""

    def requires_per_worker_listener(self) -> bool:
        return False

    def run_worker(self, listener_fd: int, stopping: StopFlag, stats: WorkerStats) -> None:
        with (
            Reactor() as reactor,
            socket.fromfd(listener_fd, socket.AF_INET, socket.SOCK_STREAM) as listener,
        ):
            reactor.register(stopping, 1, INTEREST_READ)
            reactor.register_exclusive(listener, 2, INTEREST_READ)
            while not stopping.draining():
                for event in reactor.poll():
                    if event.token == 1:
                        stopping.acknowledge()
                        continue
                    try:
                        connection, _ = listener.accept()
                    except BlockingIOError:  # another worker was quicker
                        continue
                    with connection:
                        connection.sendall(b"%d\n" % os.getpid())


def main() -> None:
    with Scheduler.start(SocketAddr.localhost(0), Clerk(), 2) as scheduler:
        clerks = set()
        for _ in range(20):
            with TcpStream.connect(scheduler.local_addr()) as stream:
                clerks.add(stream.read(20))
        print("served by other processes:", b"%d\n" % os.getpid() not in clerks)
        print("reports:", len(scheduler.drain(2000)))
    print("crashed:", scheduler.crashed_worker_count())


if __name__ == "__main__":
    main()
