"""Ask over UDP, which may lose the question or the answer: send again until an answer comes."""

import threading

from flare import SocketAddr, Timeout, UdpSocket

TRIES = 50


def answer_the_second(server: UdpSocket) -> None:
    """A server that loses the first datagram."""
    server.recv_from()
    question, sender = server.recv_from()
    server.send_to(question[::-1], sender)


def ask(server: SocketAddr, question: bytes) -> bytes:
    """The answer to *question*; each try waits 100 ms."""
    with UdpSocket.unbound() as socket:
        socket.set_recv_timeout(100)
        for number in range(1, TRIES + 1):
            socket.send_to(question, server)
            try:
                answer, sender = socket.recv_from()
            except Timeout as error:
                print(f"try {number}: {error}")
                continue
            if sender == server:
                return answer
    raise TimeoutError(f"no answer from {server} in {TRIES} tries")


def main() -> None:
    with UdpSocket.bind(SocketAddr.localhost(0)) as server:
        thread = threading.Thread(target=answer_the_second, args=(server,))
        thread.start()
        print("answer:", ask(server.local_addr(), b"stressed"))
        thread.join()


if __name__ == "__main__":
    main()
