"""A server that asks its clients for certificates, and one that looks at who they are."""

import subprocess
import tempfile
import threading
from pathlib import Path

from flare import HttpClient, HttpServer, NetworkError, Request, Response, SocketAddr, ok
from flare.tls import TlsServerConfig

MAKE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"


def make_certificate(folder: Path, name: str) -> tuple[str, str]:
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [*MAKE.split(), "-subj", f"/O=Example/CN={name}"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True)
    return str(cert), str(key)


def handler(request: Request) -> Response:
    assert request.tls_info is not None
    return ok(f"hello {request.tls_info.client_cert_subject or 'stranger'}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        cert, key = make_certificate(Path(name), "server")
        mine = make_certificate(Path(name), "alice")
        # In earnest the bundle is that of the authority which issues the clients' certificates.
        tls = TlsServerConfig(cert, key, require_client_cert=True, client_ca_bundle=mine[0])
        with HttpServer.bind(SocketAddr.localhost(0), tls=tls) as server:
            thread = threading.Thread(target=server.serve, args=(handler,))
            thread.start()
            base = f"https://localhost:{server.local_addr().port}"
            with HttpClient(base, verify=cert, cert=mine) as client:
                print(client.get("/").text())
            with HttpClient(base, verify=cert) as client:
                try:
                    client.get("/")
                except NetworkError as error:
                    print("without one:", type(error).__name__)
            server.drain(5000)
            thread.join()


if __name__ == "__main__":
    main()
