"""Mutual TLS: a server that lets in only clients with a certificate of its own authority."""

import subprocess
import tempfile
import threading
from pathlib import Path

from flare.net import SocketAddr
from flare.tls import TlsAcceptor, TlsConfig, TlsHandshakeError, TlsServerConfig, TlsStream

OPENSSL = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]


def certificate(folder: Path, name: str, by: str = "") -> tuple[Path, Path]:
    """A certificate and its key; by itself, or by an authority made before."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [*OPENSSL, "-nodes", "-days", "1", "-keyout", key, "-out", cert]
    command += ["-subj", f"/O=Example/CN={name}"]
    if by:
        command += ["-CA", folder / f"{by}.pem", "-CAkey", folder / f"{by}.key"]
        command += ["-addext", f"subjectAltName=DNS:{name}", "-addext", "basicConstraints=CA:false"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def serve(acceptor: TlsAcceptor) -> None:
    for stream, info in acceptor:  # passes over clients without a certificate
        with stream:
            stream.write_all(f"welcome, {info.client_cert_subject}".encode())


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority, _ = certificate(folder, "authority")
        server = TlsServerConfig(
            *certificate(folder, "localhost", by="authority"),
            require_client_cert=True,
            client_ca_bundle=authority,
        )
        cert, key = certificate(folder, "alice", by="authority")
        with TlsAcceptor.bind(SocketAddr.localhost(0), server) as acceptor:
            thread = threading.Thread(target=serve, args=(acceptor,))
            thread.start()
            port = acceptor.local_addr().port
            known = TlsConfig(ca_bundle=authority, cert_file=cert, key_file=key)
            with TlsStream.connect("localhost", port, known) as stream:
                print("alice:", stream.read().decode())
            # In TLS 1.3 a client learns only when reading that it was not let in.
            with TlsStream.connect("localhost", port, TlsConfig(ca_bundle=authority)) as stream:
                try:
                    stream.read()
                except TlsHandshakeError as error:
                    print("nobody:", error)
        thread.join()


if __name__ == "__main__":
    main()
