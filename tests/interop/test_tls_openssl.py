"""The openssl program and curl as peers of flare.tls."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flare.errors import ConnectionRefused, NetworkError
from flare.net import SocketAddr
from flare.tls import (
    TLS_PROTOCOL_TLS13,
    CertificateUntrusted,
    TlsAcceptor,
    TlsConfig,
    TlsHandshakeError,
    TlsServerConfig,
    TlsServerError,
    TlsStream,
)

sys.path.append(str(Path(__file__).parents[1] / "tls"))
pytest.importorskip("trustme", reason="trustme is not installed: install it to run this test")
from tls_peers import Background, Pki

Need = Callable[[str], Any]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def openssl(need: Need) -> str:
    return need("openssl")


@contextmanager
def s_server(openssl: str, pki: Pki, *options: str) -> Iterator[int]:
    """``openssl s_server`` sending back each line reversed; its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [openssl, "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(pki.server)]
    program = subprocess.Popen(
        [*command, "-key", str(pki.server), "-quiet", "-rev", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert program.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
        yield port
    finally:
        program.kill()
        program.wait()


def s_client(openssl: str, port: int, *options: str, say: bytes = b"") -> tuple[int, str]:
    """``openssl s_client`` sending *say*; its status and what it printed."""
    done = subprocess.run(
        [openssl, "s_client", "-connect", f"127.0.0.1:{port}", *options],
        input=say,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def converse(openssl: str, port: int, *options: str, lines: list[tuple[str, str]]) -> str:
    """``openssl s_client``, typing each line when the answer to the one before is there."""
    command = [openssl, "s_client", "-connect", f"127.0.0.1:{port}", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        printed = ""
        try:
            for line, answer in lines:
                program.stdin.write(line + "\n")
                program.stdin.flush()
                for found in program.stdout:
                    printed += found
                    if answer == found.strip():
                        break
                else:
                    pytest.fail(f"no {answer} in {printed}")
            return printed + program.communicate("Q\n", timeout=20)[0]
        finally:
            program.kill()


@pytest.fixture
def acceptor(request: pytest.FixtureRequest, pki: Pki) -> Iterator[TlsAcceptor]:
    settings = getattr(request, "param", {})
    config = TlsServerConfig(pki.server, **settings)
    with TlsAcceptor.bind(SocketAddr.localhost(0), config) as acceptor:
        yield acceptor


# -- flare as the client ----------------------------------------------------------------


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_client_of_s_server(openssl: str, pki: Pki, version: str) -> None:
    config = TlsConfig(ca_bundle=pki.bundle, alpn=["h2", "http/1.1"])
    with s_server(openssl, pki, version, "-alpn", "http/1.1") as port:
        with TlsStream.connect("localhost", port, config) as stream:
            assert stream.tls_version() == {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}[version]
            assert stream.alpn_selected() == "http/1.1"
            stream.write_all(b"hello\n")
            assert stream.read_exact(6) == b"olleh\n"
            session = stream.session()
            assert session
        with TlsStream.connect_resumed("localhost", port, config, session) as stream:
            assert stream.was_session_reused()
            stream.write_all(b"again\n")
            assert stream.read_exact(6) == b"niaga\n"


def test_a_server_s_demand_for_a_certificate(openssl: str, pki: Pki) -> None:
    options = ("-Verify", "1", "-verify_return_error", "-CAfile", str(pki.bundle))
    with s_server(openssl, pki, *options) as port:
        known = TlsConfig(ca_bundle=pki.bundle, cert_file=pki.client)
        with TlsStream.connect("localhost", port, known) as stream:
            stream.write_all(b"hello\n")
            assert stream.read_exact(6) == b"olleh\n"
        unknown = TlsStream.connect("localhost", port, TlsConfig(ca_bundle=pki.bundle))
        with unknown, pytest.raises(TlsHandshakeError, match="refused our certificate"):
            unknown.read()


def test_a_server_nobody_knows(openssl: str, pki: Pki) -> None:
    with s_server(openssl, pki) as port, pytest.raises(CertificateUntrusted):
        TlsStream.connect("localhost", port, TlsConfig(ca_bundle=pki.stranger_bundle))


def test_a_server_too_old(openssl: str, pki: Pki) -> None:
    config = TlsConfig(ca_bundle=pki.bundle, min_protocol=TLS_PROTOCOL_TLS13)
    refused = pytest.raises(TlsHandshakeError, match="PROTOCOL_VERSION")
    with s_server(openssl, pki, "-tls1_2") as port, refused:
        TlsStream.connect("localhost", port, config)
    with pytest.raises(ConnectionRefused):
        TlsStream.connect("127.0.0.1", port, config)


# -- flare as the server ----------------------------------------------------------------


def echo_upper(acceptor: TlsAcceptor) -> Any:
    stream, info = acceptor.accept()
    with stream:
        while data := stream.read():
            stream.write_all(data.upper())
    return info


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("acceptor", [{"alpn": ["h2"]}], indirect=True)
def test_a_server_of_s_client(openssl: str, pki: Pki, acceptor: TlsAcceptor, version: str) -> None:
    server = Background(lambda: echo_upper(acceptor))
    port = acceptor.local_addr().port
    trust = ("-CAfile", str(pki.bundle), "-verify_return_error", "-verify_hostname", "localhost")
    options = (version, "-alpn", "h2", "-servername", "LocalHost", *trust)
    printed = converse(openssl, port, *options, lines=[("hello", "HELLO")])
    info = server.result()
    assert "Verify return code: 0 (ok)" in printed
    assert "ALPN protocol: h2" in printed
    assert (info.alpn_protocol, info.sni_host) == ("h2", "localhost")
    assert info.protocol in printed
    assert info.cipher in printed


def test_key_updates_are_answered(openssl: str, pki: Pki, acceptor: TlsAcceptor) -> None:
    server = Background(lambda: echo_upper(acceptor))
    new_keys = ("K", "KEYUPDATE")  # ours too: it asks for them
    lines = [("one", "ONE"), new_keys, ("two", "TWO"), new_keys, ("three", "THREE")]
    converse(openssl, acceptor.local_addr().port, "-tls1_3", lines=lines)
    assert server.result().protocol == "TLSv1.3"


@pytest.mark.parametrize(
    "options", [["-tls1_1"], ["-tls1_2", "-cipher", "AES128-SHA"]], ids=["version", "cipher"]
)
def test_what_is_too_weak_is_refused(
    openssl: str, acceptor: TlsAcceptor, options: list[str]
) -> None:
    server = Background(acceptor.accept)
    port = acceptor.local_addr().port
    if options == ["-tls1_1"]:
        options = ["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]
    status, printed = s_client(openssl, port, *options)
    assert status != 0
    with pytest.raises(TlsServerError):
        server.result()
    assert re.search("alert (protocol version|handshake failure)", printed), printed


def test_renegotiation_is_refused(openssl: str, acceptor: TlsAcceptor) -> None:
    server = Background(lambda: echo_upper(acceptor))
    _, printed = s_client(openssl, acceptor.local_addr().port, "-tls1_2", say=b"R\n")
    assert "no renegotiation" in printed
    try:
        server.result()
    except NetworkError:
        pass


@pytest.mark.parametrize("acceptor", [{}], indirect=True)
def test_s_client_resumes(openssl: str, pki: Pki, acceptor: TlsAcceptor, tmp_path: Path) -> None:
    port = acceptor.local_addr().port
    ticket = str(tmp_path / "ticket")
    for version in ("-tls1_2", "-tls1_3"):
        server = Background(lambda: echo_upper(acceptor))
        lines = [("hello", "HELLO")]
        converse(openssl, port, version, "-sess_out", ticket, lines=lines)
        server.result()
        server = Background(lambda: echo_upper(acceptor))
        printed = converse(openssl, port, version, "-sess_in", ticket, lines=lines)
        server.result()
        assert "Reused, TLS" in printed


# -- curl -------------------------------------------------------------------------------


def hello(acceptor: TlsAcceptor) -> Any:
    stream, info = acceptor.accept()
    with stream:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += stream.read()
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello " + head[:14])
    return info


def curl(need: Need, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [need("curl"), "-sS", "--noproxy", "*", "--max-time", "20", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_curl_gets_a_page(need: Need, pki: Pki, acceptor: TlsAcceptor) -> None:
    need("curl")
    server = Background(lambda: hello(acceptor))
    url = f"https://localhost:{acceptor.local_addr().port}/"
    done = curl(need, "--cacert", str(pki.bundle), "-4", url)
    assert done.stdout == "hello GET / HTTP/1.1", done.stderr
    assert server.result().sni_host == "localhost"


def test_curl_refuses_a_server_it_does_not_trust(
    need: Need, pki: Pki, acceptor: TlsAcceptor
) -> None:
    need("curl")
    server = Background(acceptor.accept)
    url = f"https://127.0.0.1:{acceptor.local_addr().port}/"
    assert curl(need, "--cacert", str(pki.stranger_bundle), url).returncode == 60
    with pytest.raises(TlsServerError, match="UNKNOWN_CA"):
        server.result()


def test_curl_is_told_that_the_port_is_for_https(need: Need, acceptor: TlsAcceptor) -> None:
    need("curl")
    server = Background(acceptor.accept)
    done = curl(need, "-i", f"http://127.0.0.1:{acceptor.local_addr().port}/")
    assert done.stdout.startswith("HTTP/1.1 400 Bad Request"), done.stderr
    assert "https://" in done.stdout
    with pytest.raises(TlsServerError):
        server.result()


def test_curl_shows_its_certificate(need: Need, pki: Pki) -> None:
    need("curl")
    config = TlsServerConfig(pki.server, require_client_cert=True, client_ca_bundle=pki.bundle)
    with TlsAcceptor.bind(SocketAddr.localhost(0), config) as acceptor:
        server = Background(lambda: hello(acceptor))
        url = f"https://127.0.0.1:{acceptor.local_addr().port}/"
        done = curl(need, "--cacert", str(pki.bundle), "--cert", str(pki.client), url)
        assert done.stdout == "hello GET / HTTP/1.1", done.stderr
        assert server.result().client_cert_subject.endswith("/CN=client")
