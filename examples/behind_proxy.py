"""Who the client is behind a proxy: fields that a trusted proxy sets, and a PROXY header."""

import threading

from flare import HttpServer, Request, Response, ServerConfig, SocketAddr, TcpStream, get, ok


def handler(request: Request) -> Response:
    return ok(f"peer {request.peer.ip}, client {request.client.ip}, {request.scheme}")


def ask(config: ServerConfig, talk) -> str:
    """What *talk* gets from a server with this configuration."""
    with HttpServer.bind(SocketAddr.localhost(0), config) as server:
        thread = threading.Thread(target=server.serve, args=(handler,))
        thread.start()
        try:
            return talk(server.local_addr())
        finally:
            server.close()
            thread.join()


def as_http_proxy(addr: SocketAddr) -> str:
    """What a proxy such as nginx sends: ``proxy_set_header X-Forwarded-For ...``."""
    fields = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
    return get(f"http://{addr}/", headers=fields).text()


def as_load_balancer(addr: SocketAddr) -> str:
    """What a load balancer sends that only passes bytes on: HAProxy's ``send-proxy``."""
    with TcpStream.connect(addr) as stream:
        stream.set_recv_timeout(10_000)
        stream.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 80\r\n")
        stream.write_all(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
        answer = bytearray()
        while data := stream.read(4096):
            answer += data
        return answer.partition(b"\r\n\r\n")[2].decode()


def main() -> None:
    nobody = ServerConfig()
    fields = ServerConfig(trusted_proxies=["127.0.0.1"])
    header = ServerConfig(trusted_proxies=["127.0.0.1"], proxy_protocol=True)
    print("not trusted: ", ask(nobody, as_http_proxy))
    print("trusted:     ", ask(fields, as_http_proxy))
    print("PROXY header:", ask(header, as_load_balancer))


if __name__ == "__main__":
    main()
