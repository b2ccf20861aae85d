"""A TCP server that sends back what it gets, a thread for each connection, and a client."""

import threading

from flare import NetworkError, SocketAddr, TcpListener, TcpStream


def echo(stream: TcpStream) -> None:
    with stream:
        stream.set_recv_timeout(30_000)  # nobody holds this thread for longer in silence
        try:
            while data := stream.read():
                stream.write_all(data)
        except NetworkError as exc:
            print(f"{stream.peer_addr()}: {exc}")


def serve(listener: TcpListener) -> None:
    for stream in listener:  # ends when the listener is closed
        threading.Thread(target=echo, args=(stream,)).start()


def main() -> None:
    with TcpListener.bind(SocketAddr.localhost(0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        addr = listener.local_addr()
        print(f"listening at {addr}")
        with TcpStream.connect("localhost", addr.port, timeout_ms=2000) as client:
            for line in (b"hello", b"over", b"TCP"):
                client.write_all(line)
                print("echoed:", client.read_exact(len(line)).decode())
            client.shutdown_write()
            assert client.read() == b""  # the server has closed, too
    server.join()


if __name__ == "__main__":
    main()
