"""A new certificate for a server that serves on: no connection is dropped, no session lost."""

import subprocess
import tempfile
import threading
from pathlib import Path

from flare import HttpClient, HttpServer, SocketAddr, ok
from flare.tls import TlsConfig, TlsServerConfig, TlsServerError, TlsStream

MAKE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"


def renew(folder: Path, version: str) -> None:
    """What a certificate agent does. After it, `kill -HUP` is as good as `reload_tls()`."""
    command = [*MAKE.split(), "-subj", f"/O=Example/CN={version}"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run(command, check=True, capture_output=True)


def shown(port: int, trusted: Path) -> str:
    with TlsStream.connect("localhost", port, TlsConfig(ca_bundle=trusted)) as stream:
        return stream.peer_cert_subject()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cert, key = folder / "cert.pem", folder / "key.pem"
        renew(folder, "first")
        with HttpServer.bind(SocketAddr.localhost(0), tls=TlsServerConfig(cert, key)) as server:
            thread = threading.Thread(target=server.serve, args=(lambda request: ok("served"),))
            thread.start()
            port = server.local_addr().port
            with HttpClient(f"https://localhost:{port}", verify=str(cert)) as client:
                print("before:", shown(port, cert), client.get("/").text())
                renew(folder, "second")
                server.reload_tls()
                print("after: ", shown(port, cert), client.get("/").text())  # the same connection
                key.write_text("not a key")
                try:
                    server.reload_tls()
                except TlsServerError as error:
                    print("kept:  ", str(error).replace(name, "..."))
                print("still: ", shown(port, cert), client.get("/").text())
            server.drain(5000)
            thread.join()


if __name__ == "__main__":
    main()
