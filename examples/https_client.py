"""The client over https: whom it trusts, what was agreed, and a certificate refused."""

import ssl
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from flare.http import HttpClient
from flare.tls import CertificateUntrusted

MAKE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost by its own authority, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = ["/O=Example/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", key, "-out", cert]
    subprocess.run([*MAKE.split(), *names, *files], check=True, capture_output=True)
    return cert, key


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        cert, key = certificate(Path(name))
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *args: None  # the handshake that is refused below
        threading.Thread(target=server.serve_forever).start()
        url = f"https://localhost:{server.server_port}/"
        try:
            with HttpClient(verify=cert) as client:
                got = client.get(url)
                print(got.status, got.text(), got.tls_info)
            with HttpClient() as client:
                try:
                    client.get(url)
                except CertificateUntrusted as error:
                    print("refused:", error.verify_message)
        finally:
            server.shutdown()
            server.server_close()


if __name__ == "__main__":
    main()
