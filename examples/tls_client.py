"""A TLS client: who answered, what was agreed, a resumed session, and a certificate refused."""

import subprocess
import tempfile
import threading
from pathlib import Path

from flare.net import SocketAddr
from flare.tls import CertificateUntrusted, TlsAcceptor, TlsConfig, TlsServerConfig, TlsStream

MAKE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj"


def certificate(folder: Path) -> Path:
    """A certificate for localhost by its own authority, and its key, in one file."""
    path = folder / "localhost.pem"
    names = ["/O=Example/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([*MAKE.split(), *names, *files], check=True, capture_output=True)
    path.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return path


def serve(acceptor: TlsAcceptor) -> None:
    for stream, info in acceptor:  # ends when the acceptor is closed
        with stream:
            while data := stream.read():
                stream.write_all(info.alpn_protocol.encode() + b": " + data)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        pem = certificate(Path(name))
        server = TlsServerConfig(pem, alpn=["echo"])
        with TlsAcceptor.bind(SocketAddr.localhost(0), server) as acceptor:
            thread = threading.Thread(target=serve, args=(acceptor,))
            thread.start()
            port = acceptor.local_addr().port
            config = TlsConfig(ca_bundle=pem, alpn=["echo"])
            with TlsStream.connect_timeout("localhost", port, config, 5000) as stream:
                print("connected:", stream.tls_version(), "to", stream.peer_cert_subject())
                stream.write_all(b"hello")
                print("answered:", stream.read().decode())
                session = stream.session()
            with TlsStream.connect_resumed("localhost", port, config, session) as stream:
                print("resumed:", stream.was_session_reused())
            try:
                TlsStream.connect("localhost", port, TlsConfig())  # trusts public authorities
            except CertificateUntrusted as error:
                print("refused:", error)
        thread.join()


if __name__ == "__main__":
    main()
