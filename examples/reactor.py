"""Many connections on one thread: a Reactor says which are ready, a TimerWheel which are late."""

import threading
import time

from flare import INTEREST_READ, Reactor, SocketAddr, TcpListener, TcpStream, TimerWheel

LISTENER, IDLE_MS = 0, 1500


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def serve(listener: TcpListener, reactor: Reactor) -> None:
    """Echo in capitals, and close whoever says nothing for 1.5 s, until somebody wakes us."""
    wheel = TimerWheel(now_ms())
    streams: dict[int, TcpStream] = {}
    timers: dict[int, int] = {}
    reactor.register(listener, LISTENER, INTEREST_READ)
    last = LISTENER

    def close(token: int) -> None:
        wheel.cancel(timers.pop(token))
        stream = streams.pop(token)
        reactor.unregister(stream)
        stream.close()

    while True:
        due = wheel.next_fire_ms()
        for event in reactor.poll(-1 if due is None else max(0, due - now_ms()) + 1):
            if event.is_wakeup():
                for token in list(streams):
                    close(token)
                return
            if event.token == LISTENER:
                last += 1
                streams[last] = listener.accept()
                reactor.register(streams[last], last, INTEREST_READ)
                timers[last] = wheel.schedule(now_ms() - wheel.now_ms() + IDLE_MS, last)
                continue
            data = streams[event.token].read()
            if not data:
                close(event.token)
                continue
            streams[event.token].write_all(data.upper())
            wheel.cancel(timers[event.token])
            timers[event.token] = wheel.schedule(now_ms() - wheel.now_ms() + IDLE_MS, event.token)
        for token in wheel.advance(now_ms()):
            print(f"connection {token} was idle for too long")
            close(token)


def main() -> None:
    with TcpListener.bind(SocketAddr.localhost(0)) as listener, Reactor() as reactor:
        thread = threading.Thread(target=serve, args=(listener, reactor))
        thread.start()
        addr = listener.local_addr()
        with TcpStream.connect(addr) as one, TcpStream.connect(addr) as other:
            for stream, text in ((one, b"one"), (other, b"other"), (one, b"again")):
                stream.write_all(text)
                print(stream.read_exact(len(text)).decode())
            assert one.read() == b""  # both are closed by the server's timer
            assert other.read() == b""
        reactor.wakeup()
        thread.join()


if __name__ == "__main__":
    main()
