"""https: who is trusted, what is agreed, what is kept, and how each failure is told."""

from __future__ import annotations

import os
import pickle
import select
import socket
import ssl
import subprocess
import sys
import threading
import warnings

import pytest
from scripted import (
    Drip,
    Eof,
    Goodbye,
    Head,
    ScriptedServer,
    Send,
    Set,
    Wait,
    Whole,
    answers,
    response,
    wait_for_input,
)

from flare.errors import ConnectionTimeout, NetworkError, ValidationError
from flare.http import HttpClient, get
from flare.http.client import BearerAuth
from flare.http.client.tls_settings import TlsSettings
from flare.http.errors import HttpProtocolError
from flare.tls import (
    CertificateExpired,
    CertificateHostnameMismatch,
    CertificateUntrusted,
    InsecureTlsWarning,
    TlsConfig,
    TlsHandshakeError,
    TlsVerify,
)


def server_context(pki, cert=None, **attributes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert or pki.server)
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


@pytest.fixture
def secure(pki):
    """Play scripts over TLS: ``with secure(script, script) as server``."""

    def start(*scripts, **context):
        return ScriptedServer(list(scripts), tls=server_context(pki, **context))

    return start


def test_a_call_over_tls(pki, secure):
    script = answers(response(b"hello"), response(b"again"))
    with secure(script) as server, HttpClient(server.base, verify=pki.bundle) as client:
        got = client.get("/a?b=c")
        assert (got.status, got.body, got.url) == (200, b"hello", f"{server.base}/a?b=c")
        assert got.tls_info.protocol == "TLSv1.3"
        assert got.tls_info.cipher.startswith("TLS_")
        assert client.get("/").body == b"again"
        assert (server.connections, client.idle_count()) == (1, 1)
        head = server.requests()[0]
        assert head.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: localhost:%d\r\n" % server.port)


def test_http_has_no_tls_info():
    with ScriptedServer([answers(response(b"x"))]) as server:
        assert get(server.base).tls_info is None


@pytest.mark.parametrize("size", [0, 1, 20_000, 200_000, 3_000_000])
def test_bodies_both_ways(pki, secure, size):
    body = os.urandom(size)
    with secure(answers(response(body))) as server, HttpClient(verify=pki.bundle) as client:
        assert client.post(server.base, body).body == body
        assert server.seen[0].endswith(body)


def test_a_streamed_upload_arrives_whole(pki, secure):
    pieces = [os.urandom(70_001) for _ in range(20)]
    with secure(answers(response(b"ok"))) as server, HttpClient(verify=pki.bundle) as client:
        assert client.post(server.base, iter(pieces)).body == b"ok"
        assert len(server.seen[0]) > 20 * 70_001


def test_an_early_answer_ends_an_upload(pki, secure):
    sent = threading.Event()
    refusal = response(b"too much", "413 Content Too Large", "Connection: close")
    with (
        secure([Head(), Send(refusal), Set(sent), Eof()]) as server,
        HttpClient(verify=pki.bundle) as client,
    ):

        def endless():
            while True:
                yield b"x" * 65536

        got = client.post(server.base, endless())
        assert (got.status, got.body) == (413, b"too much")
        assert sent.wait(10)


def test_who_is_not_trusted(pki, secure):
    with secure([]) as server, HttpClient(server.base) as client:
        with pytest.raises(CertificateUntrusted):
            client.get("/")  # certifi does not know the authority
        with pytest.raises(CertificateUntrusted):
            client.get("/", verify=pki.stranger_bundle)
        assert client._pool.counts() == (0, 0, 0)


def test_who_is_somebody_else(pki, secure):
    context = {"cert": pki.issue("elsewhere.example")}
    with secure([], **context) as server, HttpClient(verify=pki.bundle) as client:
        with pytest.raises(CertificateHostnameMismatch, match="localhost") as caught:
            client.get(server.base)
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), CertificateHostnameMismatch)


def test_who_has_expired(pki, secure):
    with (
        secure([], cert=pki.issue("localhost", days=(-30, -1))) as server,
        pytest.raises(CertificateExpired),
        HttpClient(verify=pki.bundle) as client,
    ):
        client.get(server.base)


def test_an_address_is_verified_too(pki, secure):
    with secure(answers(response(b"x"))) as server, HttpClient(verify=pki.bundle) as client:
        assert client.get(f"https://127.0.0.1:{server.port}/").body == b"x"


def test_verifying_nobody_warns(pki, secure):
    with (
        secure(answers(response(b"x")), cert=pki.issue("other.example")) as server,
        pytest.warns(InsecureTlsWarning),
    ):
        assert get(server.base, verify=False).body == b"x"


def test_a_server_that_does_not_speak_tls():
    with (
        ScriptedServer([[Send(b"HTTP/1.1 400 no\r\n\r\n"), Eof()]]) as server,
        pytest.raises(TlsHandshakeError, match="does not speak TLS"),
    ):
        get(f"https://127.0.0.1:{server.port}/")


def test_http_to_a_tls_port_is_an_error_not_a_hang(pki, secure):
    with secure([]) as server, pytest.raises(NetworkError):
        get(f"http://localhost:{server.port}/", timeout=5)


def test_a_silent_server_runs_into_the_connect_timeout():
    with ScriptedServer([[Eof()]]) as server, HttpClient(connect_timeout_ms=150) as client:
        with pytest.raises(ConnectionTimeout) as caught:
            client.get(f"https://127.0.0.1:{server.port}/")
        assert caught.value.phase == "connect"
        assert client._pool.counts() == (0, 0, 0)


def test_mutual_tls(pki, secure):
    trust = server_context(pki, verify_mode=ssl.CERT_REQUIRED)
    trust.load_verify_locations(pki.bundle)
    with ScriptedServer([answers(response(b"x"))] * 2, tls=trust) as server:
        assert get(server.base, verify=pki.bundle, cert=pki.client).body == b"x"
        pair = (pki.client, pki.client)
        assert get(server.base, verify=pki.bundle, cert=pair).body == b"x"
        with pytest.raises(NetworkError):
            get(server.base, verify=pki.bundle)
        with pytest.raises(TlsHandshakeError, match="cert/key load failed"):
            get(server.base, verify=pki.bundle, cert="/nowhere.pem")


def test_a_tls_config_says_it_all(pki, secure, tmp_path):
    log = tmp_path / "keys.log"
    config = TlsConfig(ca_bundle=pki.bundle, server_name="localhost", keylog_file=log)
    with secure(answers(response(b"x"), response(b"y"))) as server:
        with HttpClient(config) as client:  # the name in the URL is another one
            assert client.get(f"https://127.0.0.1:{server.port}/").body == b"x"
        assert "CLIENT_TRAFFIC_SECRET_0" in log.read_text()
        with pytest.raises(TypeError, match="one TlsConfig"):
            HttpClient(config, tls=config)


def test_a_later_change_of_the_config_is_no_change_of_the_client(pki, secure):
    config = TlsConfig(ca_bundle=pki.bundle)
    with secure(answers(response(b"x"))) as server, HttpClient(tls=config) as client:
        config.verify = TlsVerify.NONE
        config.ca_bundle = pki.stranger_bundle
        assert client.get(server.base).body == b"x"


@pytest.mark.parametrize(
    ("keywords", "field"),
    [
        ({"verify": ""}, "verify"),
        ({"verify": 3}, "verify"),
        ({"cert": ("a", "b", "c")}, "cert"),
        ({"cert": 1}, "cert"),
    ],
)
def test_what_cannot_be_meant(keywords, field):
    with pytest.raises(ValidationError, match=field):
        HttpClient(**keywords)
    with pytest.raises(ValidationError, match=field), HttpClient() as client:
        client.get("https://127.0.0.1:1/", **keywords)


def test_a_connection_made_without_verifying_is_not_used_by_who_verifies(pki, secure):
    scripts = [answers(response(b"a"), response(b"never"))] * 3
    with (
        secure(*scripts, cert=pki.issue("other.example")) as server,
        HttpClient(server.base) as client,
    ):
        with pytest.warns(InsecureTlsWarning):
            assert client.get("/", verify=False).body == b"a"
        with pytest.raises(CertificateUntrusted):
            client.get("/")
        with pytest.raises(CertificateHostnameMismatch):
            client.get("/", verify=pki.bundle)
        assert server.connections == 3


def test_connections_are_kept_by_every_setting_of_tls(pki, secure):
    with (
        secure(*[answers(response(b"a"), response(b"b"))] * 3) as server,
        HttpClient(server.base, verify=pki.bundle) as client,
    ):
        for keywords in ({}, {"cert": pki.client}, {"cert": pki.server}):
            assert client.get("/", **keywords).body == b"a"
        for keywords in ({}, {"cert": pki.client}, {"cert": pki.server}):
            assert client.get("/", **keywords).body == b"b"
        assert (server.connections, client.idle_count()) == (3, 3)


def test_settings_are_compared_by_value(pki):
    config = TlsConfig(ca_bundle=pki.bundle)
    assert TlsSettings(config) == TlsSettings(TlsConfig(ca_bundle=pki.bundle))
    assert hash(TlsSettings(config)) == hash(TlsSettings(config))
    for other in (
        TlsConfig(),
        TlsConfig(ca_bundle=pki.bundle, server_name="x"),
        TlsConfig(ca_bundle=pki.bundle, alpn=["x"]),
        TlsConfig(ca_bundle=pki.bundle, verify=TlsVerify.NONE),
        TlsConfig(ca_bundle=pki.bundle, cert_file=pki.client, key_password="x"),
    ):
        assert TlsSettings(other) != TlsSettings(config)
    assert TlsSettings(verify=False) != TlsSettings()
    assert TlsSettings().but(False, None) == TlsSettings(verify=False)
    assert TlsSettings().but(True, None) != TlsSettings().but("True", None)
    assert "secret" not in repr(TlsSettings(TlsConfig(key_password="secret")))


def test_sessions_are_resumed(pki, secure):
    with secure(*[answers(response(b"x", "200 OK", "Connection: close"))] * 3) as server:
        with HttpClient(server.base, verify=pki.bundle) as client:
            for _ in range(3):
                assert client.get("/").body == b"x"
        assert server.handshakes == [False, True, True]


def test_sessions_of_other_settings_are_not(pki, secure):
    with secure(*[answers(response(b"x", "200 OK", "Connection: close"))] * 2) as server:
        with HttpClient(server.base, verify=pki.bundle) as client:
            client.get("/")
            client.get("/", cert=pki.client)
        assert server.handshakes == [False, False]


def test_a_body_until_the_end_needs_the_end_of_tls(pki, secure):
    endless = b"HTTP/1.1 200 OK\r\n\r\nall there is"
    with (
        secure([Head(), Send(endless), Goodbye()], [Head(), Send(endless)]) as server,
        HttpClient(server.base, verify=pki.bundle) as client,
    ):
        assert client.get("/").body == b"all there is"
        with pytest.raises(HttpProtocolError, match="close_notify"):
            client.get("/")


def test_a_body_cut_short(pki, secure):
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"
    with (
        secure([Head(), Send(short)], [Head(), Send(short), Goodbye()]) as server,
        HttpClient(server.base, verify=pki.bundle) as client,
    ):
        for _ in range(2):
            with pytest.raises(HttpProtocolError, match="incomplete"):
                client.get("/")


@pytest.mark.parametrize("end", [[], [Goodbye()]], ids=["cut", "close_notify"])
def test_a_kept_connection_that_has_ended_is_not_used(pki, secure, end):
    with (
        secure([*answers(response(b"a")), *end], answers(response(b"b"))) as server,
        HttpClient(server.base, verify=pki.bundle) as client,
    ):
        assert client.get("/").body == b"a"
        wait_for_input(client)
        assert client.post("/", b"x").body == b"b"


def test_stray_bytes_after_a_response(pki, secure):
    stray = threading.Event()
    script = [
        Whole(),
        Send(response(b"a")),
        Wait(stray),
        Send(b"HTTP/1.1 200 stray\r\n\r\n"),
        Eof(),
    ]
    with (
        secure(script, answers(response(b"b"))) as server,
        HttpClient(server.base, verify=pki.bundle) as client,
    ):
        assert client.get("/").body == b"a"
        stray.set()
        wait_for_input(client)
        assert client.get("/").body == b"b"
        assert server.connections == 2


@pytest.mark.parametrize("behind", ["bytes", "end"])
@pytest.mark.parametrize("read", ["whole", "streamed"])
def test_what_came_in_a_record_behind_the_response(pki, read, behind):
    """No poll of the socket tells of them: they are in the memory of TLS already."""
    context = server_context(pki)
    context.set_alpn_protocols(["http/1.1"])
    seen = []

    def serve(listener):
        for body in (b"a", b"b"):
            connection, _ = listener.accept()
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_side=True)
            with connection:
                connection.settimeout(10)

                def until_done(step, connection=connection, incoming=incoming, outgoing=outgoing):
                    while True:
                        try:
                            return step()
                        except ssl.SSLWantReadError:
                            if outgoing.pending:
                                connection.sendall(outgoing.read())
                            incoming.write(connection.recv(65536))

                until_done(tls.do_handshake)
                seen.append(until_done(lambda tls=tls: tls.read(65536)))
                tls.write(response(body))
                if body == b"a" and behind == "bytes":
                    tls.write(response(b"stray"))
                elif body == b"a":
                    with pytest.raises(ssl.SSLWantReadError):
                        tls.unwrap()
                connection.sendall(outgoing.read())
                while connection.recv(65536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        base = f"https://localhost:{listener.getsockname()[1]}"
        with HttpClient(base, verify=pki.bundle, timeout_ms=10_000) as client:
            with client.get("/", stream=read == "streamed") as got:
                assert got.body == b"a"
            assert client.idle_count() == 0
            assert client.post("/", b"").body == b"b"
        server.join(10)
    assert len(seen) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_that_closes_a_download_leaves_it_to_the_parent(pki, secure):
    forked = threading.Event()
    script = [
        Whole(),
        Send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        Wait(forked),
        Send(b"world"),
        Eof(),
    ]
    with (
        secure(script) as server,
        HttpClient(server.base, verify=pki.bundle, timeout_ms=10_000) as client,
    ):
        with client.get("/", stream=True) as download:
            assert download.read(5) == b"hello"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
                child = os.fork()
            if not child:
                download.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            # A farewell of the child's would be here by now.
            assert not select.select([server._sockets[-1]], [], [], 0)[0]
            forked.set()
            assert download.read() == b"world"


def test_redirects_between_http_and_https(pki, secure):
    with secure(answers(response(b"secure"))) as tls:
        to_https = response(b"", "302 Found", f"Location: {tls.base}/there")
        with ScriptedServer([answers(to_https)]) as plain:
            with HttpClient(plain.base, BearerAuth("token"), verify=pki.bundle) as client:
                got = client.get("/here")
                assert (got.body, got.url) == (b"secure", f"{tls.base}/there")
                assert got.tls_info is not None
                assert got.history[0].tls_info is None
            assert b"Bearer" in plain.seen[0]
            assert b"Bearer" not in tls.seen[0]


def test_a_redirect_down_to_http_takes_no_credentials_along(pki, secure):
    with ScriptedServer([answers(response(b"plain"))]) as plain:
        down = response(b"", "302 Found", f"Location: {plain.base}/there")
        with (
            secure(answers(down)) as tls,
            HttpClient(tls.base, BearerAuth("token"), verify=pki.bundle) as client,
        ):
            assert client.get("/").body == b"plain"
        assert b"Bearer" not in plain.seen[0]


def test_a_slow_response_runs_into_the_read_timeout(pki, secure):
    with (
        secure([Head(), Drip(response(b"x" * 50), 0.02), Eof()]) as server,
        HttpClient(server.base, verify=pki.bundle) as client,
        pytest.raises(TimeoutError),
    ):
        client.get("/", timeout_ms=200)


def test_a_forked_child_leaves_the_parents_connection_alone(pki, secure):
    with (
        secure(answers(response(b"a"), response(b"b"))) as server,
        HttpClient(server.base, verify=pki.bundle) as client,
    ):
        assert client.get("/").body == b"a"
        sessions = client._pool._dial._sessions
        with warnings.catch_warnings(), sessions._lock:  # as if another thread had it
            warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
            pid = os.fork()
            if not pid:
                os._exit(client.idle_count() or sessions._lock.locked())
        assert os.waitpid(pid, 0)[1] == 0
        assert client.get("/").body == b"b"
        assert server.connections == 1


def test_many_threads_share_a_client(pki, secure):
    script = answers(*[response(b"x")] * 100)
    with secure(*[script] * 8) as server, HttpClient(server.base, verify=pki.bundle) as client:
        failures = []

        def work():
            try:
                for _ in range(10):
                    assert client.get("/").body == b"x"
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert server.connections <= 8


def test_a_client_without_https_does_not_load_ssl():
    program = (
        "import sys; from flare.http import HttpClient; HttpClient().close(); "
        "sys.exit('ssl' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 0


def flare_get(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "flare", "get", *arguments],
        capture_output=True,
        env={**os.environ, **environment},
        timeout=30,
    )


@pytest.mark.parametrize("how", ["environment", "--cacert", "-k"])
def test_the_command_line_fetches_https(pki, secure, how):
    trust = {"environment": [], "--cacert": ["--cacert", str(pki.bundle)], "-k": ["-k"]}[how]
    environment = {"SSL_CERT_FILE": str(pki.bundle)} if how == "environment" else {}
    with secure(answers(response(b"hello"))) as server:
        got = flare_get(*trust, server.base, **environment)
        assert (got.stdout, got.stderr, got.returncode) == (b"hello", b"", 0)


def test_the_command_line_shows_a_certificate_and_says_who_is_not_trusted(pki):
    wanting = server_context(pki, verify_mode=ssl.CERT_REQUIRED)
    wanting.load_verify_locations(pki.bundle)
    with ScriptedServer([answers(response(b"hello")), []], tls=wanting) as server:
        trust = ["--cacert", str(pki.bundle)]
        got = flare_get(*trust, "--cert", str(pki.client), server.base)
        assert (got.stdout, got.returncode) == (b"hello", 0)
        got = flare_get(server.base)
        assert (got.stdout, got.returncode) == (b"", 1)
        assert b"CertificateUntrusted" in got.stderr
        assert b"Traceback" not in got.stderr


def test_the_command_line_takes_other_ways():
    with ScriptedServer([answers(response(b"by proxy"))]) as proxy:
        assert flare_get("-x", proxy.peer, "http://a.example/").stdout == b"by proxy"
        assert flare_get("-x", "ftp://p", "http://a.example/").returncode == 2
    got = flare_get("--unix-socket", "/nowhere", "http://a.example/")
    assert (got.returncode, got.stdout) == (1, b"")
    assert b"/nowhere" in got.stderr
