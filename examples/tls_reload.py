"""A certificate exchanged while serving: connections there are go on, new ones get the new one."""

import subprocess
import tempfile
import threading
from pathlib import Path

from flare.net import SocketAddr
from flare.tls import TlsAcceptor, TlsConfig, TlsServerConfig, TlsServerError, TlsStream

OPENSSL = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"


def renew(folder: Path, version: str) -> None:
    """What a certificate agent does: put other files where the old ones were."""
    command = [*OPENSSL.split(), "-subj", f"/O=Example/CN={version}"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run(command, check=True, capture_output=True)


def echo(stream: TlsStream) -> None:
    with stream:
        while data := stream.read():
            stream.write_all(data)


def serve(acceptor: TlsAcceptor) -> None:
    for stream, _ in acceptor:
        threading.Thread(target=echo, args=(stream,)).start()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cert, key = folder / "cert.pem", folder / "key.pem"
        renew(folder, "first")
        server = TlsServerConfig(cert, key)
        with TlsAcceptor.bind(SocketAddr.localhost(0), server) as acceptor:
            thread = threading.Thread(target=serve, args=(acceptor,))
            thread.start()
            port = acceptor.local_addr().port
            with TlsStream.connect("localhost", port, TlsConfig(ca_bundle=cert)) as old:
                renew(folder, "second")
                print("changed:", acceptor.reload_if_changed())  # on a timer, or at SIGHUP reload()
                with TlsStream.connect("localhost", port, TlsConfig(ca_bundle=cert)) as new:
                    print("new connection:", new.peer_cert_subject())
                old.write_all(b"still here")
                print("old connection:", old.peer_cert_subject(), old.read_exact(10).decode())
                key.write_text("not a key")
                try:
                    acceptor.reload()
                except TlsServerError as error:
                    print("kept the old one:", str(error).replace(name, "..."))
        thread.join()


if __name__ == "__main__":
    main()
