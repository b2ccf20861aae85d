"""A key-value store in a line protocol of its own, with a limit on what a line may be."""

import threading

from flare import BufReader, NetworkError, SocketAddr, TcpListener, TcpStream, ValidationError

MAX_LINE = 256


class Store:
    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._lock = threading.Lock()

    def answer(self, line: str) -> str:
        command, _, rest = line.partition(" ")
        key, _, value = rest.partition(" ")
        with self._lock:
            if command == "set" and key:
                self._values[key] = value
                return "ok"
            if command == "get":
                return self._values.get(key, "nothing")
        return "what?"


def talk(stream: TcpStream, store: Store) -> None:
    with stream:
        stream.set_recv_timeout(30_000)
        reader = BufReader(stream, encoding="utf-8")
        try:
            while line := reader.readline(MAX_LINE):
                stream.write_all(f"{store.answer(line)}\n".encode())
        except ValidationError:
            stream.write_all(b"too long\n")
        except (NetworkError, UnicodeDecodeError) as error:
            print(f"{stream.peer_addr()}: {error}")


def main() -> None:
    store = Store()
    with TcpListener.bind(SocketAddr.localhost(0)) as listener:

        def serve() -> None:
            for stream in listener:
                threading.Thread(target=talk, args=(stream, store)).start()

        server = threading.Thread(target=serve)
        server.start()
        with TcpStream.connect(listener.local_addr()) as client:
            answers = BufReader(client, encoding="utf-8")
            for line in ("set color blue", "get color", "get shape", "x" * 1000):
                client.write_all(f"{line}\n".encode())
                print(f"{line[:20]} -> {answers.readline()}")
    server.join()


if __name__ == "__main__":
    main()
