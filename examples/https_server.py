"""An HTTPS server: two certificates, chosen by the name a client asks for, and who speaks what."""

import subprocess
import tempfile
import threading
from pathlib import Path

from flare import HttpClient, HttpServer, Request, Response, SocketAddr, ok
from flare.tls import TlsConfig, TlsServerConfig

OPENSSL = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /O=X"


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Self-signed, for the example; `flare serve --tls-self-signed` makes one as well."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [*OPENSSL.split(), "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def handler(request: Request) -> Response:
    info = request.tls_info
    assert info is not None
    name = info.sni_host
    return ok(f"{request.scheme} for {name}: {request.version} over {info.protocol}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cert, key = make_certificate(folder, "localhost")
        other = make_certificate(folder, "app.localhost")
        tls = TlsServerConfig(cert, key, sni_certs={"app.localhost": other})
        with HttpServer.bind(SocketAddr.localhost(0), tls=tls) as server:
            thread = threading.Thread(target=server.serve, args=(handler,))
            thread.start()
            port = server.local_addr().port
            for host, trusted in (("localhost", cert), ("app.localhost", other[0])):
                # No DNS has the second name, so the client asks for it at the first one's address.
                settings = TlsConfig(ca_bundle=trusted, server_name=host)
                with HttpClient(f"https://localhost:{port}", tls=settings) as client:
                    print(client.get("/").text())
            with HttpClient(f"http://localhost:{port}") as client:
                refused = client.get("/")
                print(refused.status, refused.text().strip())
            server.drain(5000)
            thread.join()


if __name__ == "__main__":
    main()
