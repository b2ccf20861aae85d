"""A UDP server that sends back what it gets, and a client that asks again when nothing comes."""

import errno
import threading

from flare import NetworkError, SocketAddr, Timeout, UdpSocket


def serve(server: UdpSocket) -> None:
    while True:
        try:
            data, sender = server.recv_from()
            server.send_to(data, sender)
        except NetworkError as exc:
            if exc.errno == errno.EBADF:  # closed by main
                return
            raise


def ask(client: UdpSocket, question: bytes, server: SocketAddr) -> bytes:
    client.set_recv_timeout(500)
    for _ in range(20):  # datagrams may get lost
        client.send_to(question, server)
        try:
            answer, sender = client.recv_from()
        except Timeout:
            continue
        if sender == server:
            return answer
    raise SystemExit("no answer")


def main() -> None:
    for local in (SocketAddr.localhost(0), SocketAddr.localhost_v6(0)):
        with UdpSocket.bind(local) as server, UdpSocket.unbound() as client:
            thread = threading.Thread(target=serve, args=(server,))
            thread.start()
            answer = ask(client, b"hello", server.local_addr())
            print(f"{server.local_addr()} answers {answer!r} to {client.local_addr()}")
            server.close()
            thread.join()


if __name__ == "__main__":
    main()
