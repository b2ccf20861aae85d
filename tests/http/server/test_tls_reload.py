"""New certificates while serving, and sessions that any worker resumes."""

from __future__ import annotations

import shutil
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import Begin, Load
from serving import PATIENCE, Address, Peer, Running, Start
from tls_serving import ConnectTls, Pki, der_of, secure, tls, tls_server

from flare.http import Request, Response, ok
from flare.tls import TlsServerError


def hello(request: Request) -> Response:
    return ok("hello")


@pytest.fixture
def renewed(pki: Pki, tmp_path: Path) -> tuple[Path, Callable[[], bytes]]:
    """The file of a certificate, and what puts another into it and returns that, in DER."""
    path = tmp_path / "cert.pem"
    shutil.copy(pki.issue("localhost", "127.0.0.1"), path)

    def renew() -> bytes:
        new = tmp_path / "new.pem"
        shutil.copy(pki.issue("localhost", "127.0.0.1"), new)
        new.replace(path)
        return der_of(path)

    return path, renew


def certificate_of(peer: Peer) -> bytes:
    found = tls(peer).getpeercert(True)
    assert found is not None
    return found


# -- threads ------------------------------------------------------------------------------------


def test_old_connections_go_on_and_new_ones_get_the_new_certificate(
    start: Start, connect_tls: ConnectTls, pki: Pki, renewed: Any
) -> None:
    path, renew = renewed
    running = start(hello, server=tls_server(pki, cert_file=path))
    old = connect_tls(running.address)
    new = renew()
    running.server.reload_tls()
    peer = connect_tls(running.address)
    assert certificate_of(peer) == new
    assert certificate_of(old) != new
    for one in (old, peer):
        one.get("/")
        assert one.read().body == b"hello"


def test_a_file_that_cannot_be_used_changes_nothing(
    start: Start, connect_tls: ConnectTls, pki: Pki, renewed: Any
) -> None:
    path, _ = renewed
    running = start(hello, server=tls_server(pki, cert_file=path))
    before = certificate_of(connect_tls(running.address))
    path.write_text("not a certificate")
    with pytest.raises(TlsServerError, match="certificate load failed"):
        running.server.reload_tls()
    assert certificate_of(connect_tls(running.address)) == before


def test_several_workers_that_are_threads_all_get_it(
    start: Start, connect_tls: ConnectTls, pki: Pki, renewed: Any
) -> None:
    path, renew = renewed
    running: Running = start(hello, server=tls_server(pki, cert_file=path), workers=3)
    new = renew()
    running.server.reload_tls()
    for _ in range(12):
        assert certificate_of(connect_tls(running.address)) == new


def test_no_request_is_lost_while_certificates_come_and_go(
    start: Start, pki: Pki, renewed: Any
) -> None:
    path, renew = renewed
    running = start(lambda request: ok("1"), server=tls_server(pki, cert_file=path))
    context = pki.context()
    with Load(running.address, clients=4, secure=lambda peer: secure(peer, context)) as load:
        for _ in range(5):
            renew()
            running.server.reload_tls()
            enough = sum(load.answers.values()) + 20
            load.until(lambda answers, enough=enough: sum(answers.values()) > enough)
    assert not load.failures


# -- processes ------------------------------------------------------------------------------------


@pytest.fixture
def program(program: Begin) -> Begin:
    if sys.platform != "linux":
        pytest.skip("looks into /proc")
    return program


def until_all_have(pki: Pki, address: Address, workers: int, wanted: bytes) -> set[int]:
    """Connect until as many workers have shown the certificate; who they are."""
    seen: dict[int, bool] = {}
    context = pki.context()
    deadline = time.monotonic() + 2 * PATIENCE
    while sum(seen.values()) < workers:
        assert time.monotonic() < deadline, seen
        peer = secure(Peer(address), context)
        try:
            peer.get("/", "Connection: close")
            seen[int(peer.read().body)] = certificate_of(peer) == wanted
        finally:
            peer.close()
    return {pid for pid, has in seen.items() if has}


@pytest.mark.parametrize("way", ["signal", "handler"])
def test_worker_processes_all_get_it_and_lose_nothing(
    program: Begin, pki: Pki, renewed: Any, way: str
) -> None:
    path, renew = renewed
    running = program(workers=2, tls={"cert_file": str(path)}, patient=True)
    before = set(running.await_workers(2))
    context = pki.context()
    with Load(running.address, clients=4, secure=lambda peer: secure(peer, context)) as load:
        load.until(lambda answers: set(answers) == before)
        new = renew()
        if way == "signal":
            running.signal(signal.SIGHUP)
        else:
            peer = secure(Peer(running.address), context)
            try:
                peer.get("/reload")
                assert peer.read().body == b"None"
            finally:
                peer.close()
        workers = until_all_have(pki, running.address, 2, new)
    assert not load.lost
    assert way == "signal" or workers == before  # SIGHUP takes new code, too
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


def test_a_hangup_with_a_bad_file_keeps_the_old_one(program: Begin, pki: Pki, renewed: Any) -> None:
    path, _ = renewed
    running = program(workers=1, tls={"cert_file": str(path)})
    assert running.await_workers(1)
    peer = secure(Peer(running.address), pki.context())
    path.write_text("nonsense")
    running.signal(signal.SIGHUP)
    running.until("log: the certificates stay as they were: certificate load failed")
    other = secure(Peer(running.address), pki.context())
    assert certificate_of(other) == certificate_of(peer)
    for one in (peer, other):
        one.get("/")
        assert int(one.read().body) == running.pid
        one.close()
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


def test_a_hangup_renews_the_certificates_of_one_process(
    program: Begin, pki: Pki, renewed: Any
) -> None:
    path, renew = renewed
    running = program(workers=1, tls={"cert_file": str(path)})
    assert running.await_workers(1)
    peer = secure(Peer(running.address), pki.context())
    new = renew()
    running.signal(signal.SIGHUP)
    assert until_all_have(pki, running.address, 1, new) == {running.pid}
    peer.get("/")
    assert int(peer.read().body) == running.pid
    peer.close()
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


@pytest.mark.parametrize("lifetime_s", [7200, 1])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_any_worker_process_resumes_a_session(
    program: Begin, pki: Pki, version: ssl.TLSVersion, lifetime_s: int
) -> None:
    """Also when the keys have been renewed; which they may be between any two connections."""
    running = program(
        workers=2, tls={"cert_file": str(pki.server), "ticket_lifetime_s": lifetime_s}
    )
    running.await_workers(2)
    context = pki.context(maximum_version=version)
    if lifetime_s == 1:
        time.sleep(1.2)
    resumed_by: set[int] = set()
    session, issuer = None, 0
    deadline = time.monotonic() + PATIENCE
    while len(resumed_by) < 2:
        assert time.monotonic() < deadline, resumed_by
        peer = secure(Peer(running.address), context, session=session)
        try:
            peer.get("/", "Connection: close")
            pid = int(peer.read().body)
            reused = bool(tls(peer).session_reused)
            assert reused or session is None or lifetime_s == 1
            if reused and pid != issuer:
                resumed_by.add(pid)
            session, issuer = tls(peer).session, pid
        finally:
            peer.close()
    running.signal(signal.SIGTERM)
    assert running.wait() == 0


def test_requests_in_progress_outlive_a_replaced_worker(
    program: Begin, pki: Pki, renewed: Any, tmp_path: Path
) -> None:
    path, _ = renewed
    go_on = tmp_path / "go on"
    running = program(workers=2, tls={"cert_file": str(path)}, slow_until=str(go_on))
    running.await_workers(2)
    peer = secure(Peer(running.address), pki.context())
    answers: list[bytes] = []

    def ask() -> None:
        peer.get("/slow")
        answers.append(peer.read().body)

    asking = threading.Thread(target=ask)
    asking.start()
    running.until("^inside")
    running.signal(signal.SIGHUP)
    running.await_workers(4)
    go_on.touch()
    asking.join(PATIENCE)
    peer.close()
    assert [int(body) in running.pids() for body in answers] == [True]
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
