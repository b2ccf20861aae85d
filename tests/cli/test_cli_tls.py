"""``flare serve`` and ``flare demo`` over TLS."""

from __future__ import annotations

import os
import re
import shutil
import signal
import ssl
import stat
import subprocess
import time
from pathlib import Path

import pytest
import trustme
from test_cli import DEADLINE, read_until, run, started, stop

from flare import HttpClient
from flare.cli import CommandError
from flare.cli.tls import self_signed
from flare.net import SocketAddr
from flare.tls import InsecureTlsWarning, TlsConfig, TlsStream

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed: install it to run this test"
)

APP = """
from flare import Request, ok

def app(request):
    return ok(f"{request.scheme} {request.tls_info.client_cert_subject}")
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("made"))


def fetch(base: str, trusted: Path | str, **options: object) -> str:
    with HttpClient(base, verify=str(trusted), **options) as client:
        return client.get("/").text()


def test_serve_with_a_certificate(app: Path, made: tuple[Path, Path]) -> None:
    cert, key = map(str, made)
    command = ["serve", "app:app", "--port", "0", "--tls-cert", cert, "--tls-key", key]
    with started(*command, cwd=app) as program:
        base = read_until(program, r"app:app on (https://\S+/)")[1]
        assert fetch(base, cert) == "https "
        assert stop(program, signal.SIGTERM) == 0


def test_serve_with_an_encrypted_key(app: Path, made: tuple[Path, Path]) -> None:
    cert, key = map(str, made)
    command = ["openssl", "pkcs8", "-topk8", "-in", key, "-out", "locked.pem"]
    subprocess.run([*command, "-passout", "pass:sesame"], cwd=app, check=True, timeout=30)
    command = ["serve", "app:app", "--port", "0", "--tls-cert", cert, "--tls-key", "locked.pem"]
    done = run(*command, cwd=app)
    assert done.returncode == 2
    assert "the key is encrypted, and its password is missing (locked.pem)" in done.stderr
    (app / "password.txt").write_text("sesame\nand a note\n")
    with started(*command, "--tls-key-password-file", "password.txt", cwd=app) as program:
        base = read_until(program, r"on (https://\S+/)")[1]
        assert fetch(base, cert) == "https "
        assert stop(program, signal.SIGTERM) == 0


def test_serve_lets_in_only_clients_with_a_certificate(app: Path, made: tuple[Path, Path]) -> None:
    cert, key = map(str, made)
    command = ["serve", "app:app", "--port", "0", "--tls-cert", cert, "--tls-key", key]
    authority = trustme.CA()
    authority.cert_pem.write_to_path(app / "ca.pem")
    mine = app / "mine.pem"
    issued = authority.issue_cert("client.example", common_name="me")
    mine.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    with started(*command, "--tls-client-ca", "ca.pem", cwd=app) as program:
        base = read_until(program, r"on (https://\S+/)")[1]
        assert fetch(base, cert, cert=str(mine)).endswith("CN=me")
        with pytest.raises(OSError, match="certificate"):
            fetch(base, cert)
        assert stop(program, signal.SIGTERM) == 0


@pytest.mark.parametrize("more", [[], ["--workers", "2"], ["--reload"]], ids=str)
def test_serve_with_a_certificate_made_now(app: Path, more: list[str]) -> None:
    command = ["serve", "app:app", "--port", "0", "--tls-self-signed", *more]
    with started(*command, cwd=app) as program:
        cert = read_until(program, r"self-signed, until this ends: (\S+)")[1]
        base = read_until(program, r"on (https://\S+/)")[1]
        assert fetch(base, cert) == "https "
        assert stop(program, signal.SIGTERM) == 0
    assert not os.path.exists(cert)


@pytest.mark.skipif(
    signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="under nohup there is none"
)
def test_a_hangup_ends_reload_and_leaves_no_key_behind(app: Path) -> None:
    command = ["serve", "app:app", "--port", "0", "--tls-self-signed", "--reload"]
    with started(*command, cwd=app) as program:
        cert = read_until(program, r"self-signed, until this ends: (\S+)")[1]
        read_until(program, r"on (https://\S+/)")
        assert stop(program, signal.SIGHUP) == 0
    assert not os.path.exists(cert)


def test_a_hangup_takes_a_new_certificate(app: Path, made: tuple[Path, Path]) -> None:
    cert, key = app / "cert.pem", app / "key.pem"
    for path, new in zip((cert, key), made, strict=True):
        shutil.copy(new, path)
    command = ["serve", "app:app", "--port", "0", "--tls-cert", "cert.pem", "--tls-key", "key.pem"]
    with started(*command, cwd=app) as program:
        url = read_until(program, r"on https://(\S+)/")[1]
        (app / "new").mkdir()
        for path, new in zip((cert, key), self_signed(app / "new"), strict=True):
            shutil.copy(new, path)
        program.send_signal(signal.SIGHUP)
        trusts_the_new = TlsConfig(ca_bundle=cert)
        addr = SocketAddr.parse(url)
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                TlsStream.connect(str(addr.ip), addr.port, trusts_the_new).close()
                break
            except ssl.SSLCertVerificationError:
                assert time.monotonic() < deadline, "it still shows the old one"
        assert stop(program, signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--tls-key", "k.pem"], "--tls-key needs --tls-cert"),
        (["--tls-key-password-file", "p"], "--tls-key-password-file needs --tls-cert"),
        (
            ["--tls-cert", "c.pem", "--tls-key-password-file", "no.txt"],
            "--tls-key-password-file no.txt: No such file or directory",
        ),
        (["--tls-client-ca", "k.pem"], "--tls-client-ca needs --tls-cert"),
        (["--tls-cert", "c.pem", "--tls-self-signed"], "--tls-self-signed does not go with"),
        (
            ["--tls-cert", "no.pem"],
            r"load failed: No such file or directory \(no.pem\)",
        ),
        (["--tls-cert", "app.py"], r"certificate load failed: .*\(app.py\)"),
    ],
    ids=str,
)
def test_what_cannot_be_is_told_in_one_line(app: Path, flags: list[str], told: str) -> None:
    done = run("serve", "app:app", "--port", "0", *flags, cwd=app)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert re.search(told, done.stderr)


def test_without_openssl_there_is_no_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CommandError, match="openssl program; install it"):
        self_signed(tmp_path)


def test_a_key_made_is_for_nobody_else(made: tuple[Path, Path]) -> None:
    assert stat.S_IMODE(made[1].stat().st_mode) == 0o600


def test_hosts_that_are_none_are_left_out(tmp_path: Path) -> None:
    cert, _ = self_signed(tmp_path, ["::1", "host.example", "no host\nbasicConstraints=CA:TRUE"])
    shown = subprocess.run(
        ["openssl", "x509", "-in", cert, "-noout", "-text"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    ).stdout
    assert "DNS:host.example" in shown
    assert "no host" not in shown
    assert "CA:TRUE" not in shown


def test_the_demo_serves_https_beside_http() -> None:
    done = run("demo", "--port", "0", "--once")
    assert done.returncode == 0, done.stderr
    _, _, secure = done.stdout.partition("... and from https://127.0.0.1:")
    assert re.search(r"GET +/hello/world +200", secure)


def test_the_demo_goes_on_over_both(tmp_path: Path) -> None:
    with started("demo", "--port", "0") as program:
        found = read_until(program, r"Serving on (http://\S+/) and (https://\S+/) until")
        with HttpClient(found[2], tls=TlsConfig.insecure()) as client:
            with pytest.warns(InsecureTlsWarning):
                assert "flare" in client.get("/").text()
        assert stop(program, signal.SIGINT) == 0


def test_the_demo_without_https() -> None:
    done = run("demo", "--port", "0", "--once", "--no-https")
    assert done.returncode == 0, done.stderr
    assert "https" not in done.stdout


def test_the_demo_without_openssl_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("demo", "--port", "0", "--once", env={**os.environ, "PATH": ""})
    assert done.returncode == 0, done.stderr
    assert "HTTPS is left out" in done.stdout
