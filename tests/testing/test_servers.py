from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from multiprocessing import resource_tracker

import pytest

from flare.errors import ValidationError
from flare.http.request import Request
from flare.http.response import Response, ok
from flare.http.server import HttpServer, ServerConfig
from flare.net import SocketAddr
from flare.testing import (
    ServerProcessError,
    fork_server,
    forked_server,
    kill_forked_server,
    running_server,
    spawn_server,
)


@pytest.fixture(scope="module", autouse=True)
def _tracker():
    """The helper process that multiprocessing starts once and keeps for itself."""
    resource_tracker.ensure_running()


def hello(req: Request) -> Response:
    return ok(f"{os.getpid()}")


def fetch(addr: SocketAddr) -> str:
    connection = http.client.HTTPConnection(str(addr.ip), addr.port, timeout=20)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def is_refused(addr: SocketAddr) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((str(addr.ip), addr.port)) != 0


def bind() -> HttpServer:
    return HttpServer.bind(SocketAddr.localhost(0))


class TestRunningServer:
    @pytest.mark.parametrize("where", [None, SocketAddr.localhost(0)])
    def test_it_serves_in_this_process_and_ends_with_the_block(self, where):
        with running_server(hello, where) as server:
            addr = server.local_addr()
            assert fetch(addr) == f"{os.getpid()}"
        assert is_refused(addr)

    def test_a_bound_server_is_taken(self):
        bound = bind()
        with running_server(hello, bound) as server:
            assert server is bound
            assert fetch(bound.local_addr()) == f"{os.getpid()}"

    def test_a_configuration_is_for_a_server_it_binds(self):
        config = ServerConfig(keep_alive=False)
        with running_server(hello, config=config) as server:
            assert server.config is config
        with (
            bind() as bound,
            pytest.raises(ValidationError, match="config"),
            running_server(hello, bound, config=config),
        ):
            pytest.fail("not reached")

    def test_a_block_that_does_nothing_is_no_error(self):
        for _ in range(20):
            with running_server(hello):
                pass

    def test_what_serve_raises_is_raised_at_the_end_of_the_block(self):
        with pytest.raises(TypeError, match="not None"), running_server(None):
            pass

    def test_what_the_block_raises_comes_out(self):
        with pytest.raises(LookupError), running_server(hello) as server:
            raise LookupError
        assert is_refused(server.local_addr())

    def test_the_block_may_close_the_server_itself(self):
        with running_server(hello) as server:
            fetch(server.local_addr())
            server.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
class TestForkServer:
    def test_it_serves_in_another_process_until_it_is_killed(self):
        server = bind()
        pid = fork_server(server, hello)
        try:
            assert fetch(server.local_addr()) == f"{pid}" != f"{os.getpid()}"
        finally:
            kill_forked_server(pid)
        assert is_refused(server.local_addr())
        kill_forked_server(pid)

    def test_as_a_context_manager_it_gives_the_address(self):
        with forked_server(bind(), hello) as addr:
            assert fetch(addr) != f"{os.getpid()}"
        assert is_refused(addr)

    def test_it_ends_when_the_block_raises(self):
        with pytest.raises(LookupError), forked_server(bind(), hello) as addr:
            raise LookupError
        assert is_refused(addr)

    def test_an_address_for_all_interfaces_is_reached_over_the_loopback(self):
        with forked_server(HttpServer.bind(SocketAddr("0.0.0.0", 0)), hello) as addr:
            assert fetch(SocketAddr.localhost(addr.port))

    def test_the_childs_signals_are_the_systems(self):
        before = signal.signal(signal.SIGUSR1, lambda *_: None)
        try:
            pid = fork_server(bind(), hello)
        finally:
            signal.signal(signal.SIGUSR1, before)
        try:
            os.kill(pid, signal.SIGUSR1)
            found, status = os.waitpid(pid, 0)
            assert found == pid
            assert os.WTERMSIG(status) == signal.SIGUSR1
        finally:
            kill_forked_server(pid)

    def test_what_is_no_handler_is_refused_before_the_fork(self):
        with bind() as server, pytest.raises(TypeError, match="not None"):
            fork_server(server, None)

    def test_a_failing_child_prints_why_and_exits_with_1(self, capfd):
        class Broken(HttpServer):
            def serve(self, handler, num_workers=1):
                raise LookupError("no luck")

        server = Broken.bind(SocketAddr.localhost(0))
        server.close()  # so that the wait for a connection lasts until the child has ended
        with pytest.raises(ServerProcessError, match="exit code 1"):
            fork_server(server, hello, startup_us=20_000_000)
        assert "LookupError: no luck" in capfd.readouterr().err

    @pytest.mark.parametrize("pid", [0, -1])
    def test_an_id_that_means_many_processes_is_refused(self, pid):
        with pytest.raises(ValueError, match="pid"):
            kill_forked_server(pid)

    def test_a_process_that_is_no_child_of_ours_is_not_waited_for(self):
        gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
        gone.wait(timeout=30)
        kill_forked_server(gone.pid)


def make() -> tuple[HttpServer, object]:
    return bind(), hello


def make_nothing() -> tuple[HttpServer, object]:
    raise LookupError("no luck")


def make_bad_handler() -> tuple[HttpServer, object]:
    return bind(), None


def make_mortal() -> tuple[HttpServer, object]:
    return bind(), lambda req: os._exit(7)


class TestSpawnServer:
    def test_it_serves_in_a_new_process_and_ends_with_the_block(self):
        with spawn_server(make) as addr:
            assert fetch(addr) != f"{os.getpid()}"
        assert is_refused(addr)

    def test_what_the_block_raises_comes_out(self):
        with pytest.raises(LookupError), spawn_server(make) as addr:
            raise LookupError
        assert is_refused(addr)

    @pytest.mark.parametrize(
        ("factory", "why"), [(make_nothing, "no luck"), (make_bad_handler, "not None")]
    )
    def test_what_fails_there_is_raised_here(self, factory, why):
        with pytest.raises(ServerProcessError, match=why), spawn_server(factory):
            pass

    def test_a_process_that_dies_is_reported(self):
        with (
            pytest.raises(ServerProcessError, match="exit code 7"),
            spawn_server(make_mortal) as addr,
            pytest.raises(http.client.RemoteDisconnected),
        ):
            fetch(addr)

    def test_a_factory_that_cannot_be_imported_is_refused(self):
        with pytest.raises(ValidationError, match="factory"), spawn_server(lambda: make()):
            pytest.fail("not reached")
