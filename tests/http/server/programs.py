"""Servers in processes of their own, and load on them: for the tests of worker processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from serving import PATIENCE, Address, Peer

PROGRAM = """
import dataclasses, fcntl, json, logging, os, random, signal, socket, stat, sys, termios
import threading, time
from pathlib import Path
import flare.http.server.connection
from flare.http import HttpServer, ServerConfig, ok
from flare.net import SocketAddr
from flare.tls import TlsServerConfig

options = json.loads(sys.argv[1])
logging.basicConfig(stream=sys.stdout, format="log: %(message)s")

if options.get("patient"):  # with clients that are held up when the server leaves
    flare.http.server.connection._LAST_MS = 10_000
if "terminal" in options:
    fcntl.ioctl(options["terminal"], termios.TIOCSCTTY, 0)
if options.get("nohup"):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
if options.get("own_hangup"):
    signal.signal(signal.SIGHUP, lambda *_: say("my hangup"))

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def listening():
    count = 0
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as sock:
                    count += sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            pass
    return count

def handler(request):
    url = request.url
    if url == "/slow":
        say("inside", os.getpid())
        if "slow_until" not in options:
            time.sleep(options.get("slow", 0.3))
        while "slow_until" in options and not os.path.exists(options["slow_until"]):
            time.sleep(0.005)
    elif url == "/exit":
        raise SystemExit(3)
    elif url == "/fail":
        raise LookupError("as asked")
    elif url == "/die":
        os._exit(7)
    elif url == "/close":
        server.close()
    elif url == "/reload":
        return ok(str(try_to(server.reload_tls)))
    elif url == "/drain":
        return ok(str(try_to(server.drain, 1000)))
    elif url == "/stuck":
        say("inside", os.getpid())
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass
    elif url == "/stats":
        return ok(json.dumps(dataclasses.asdict(server.stats())))
    elif url == "/look":
        return ok(json.dumps({
            "pid": os.getpid(),
            "listening": listening(),
            "cpus": len(os.sched_getaffinity(0)),
            "random": random.random(),
            "ignores_sigint": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        }))
    return ok(str(os.getpid()))

def try_to(call, *arguments):
    try:
        return call(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def on_start():
    say("start", os.getpid())
    marker = options.get("marker")
    if marker and os.path.exists(marker):
        raise RuntimeError("no second time")
    time.sleep(options.get("start_seconds", 0))
    if options.get("fail"):
        raise RuntimeError("no database")

def on_stop():
    say("stop", os.getpid())

config = ServerConfig(
    on_worker_start=on_start, on_worker_stop=on_stop, **options.get("config", {})
)
if "fds" in options:
    server = HttpServer.from_fds(options["fds"], config)
else:
    unix = [Path(path) for path in options.get("unix", [])]
    tcp = [SocketAddr.localhost(0) for _ in range(options.get("tcp", 1))]
    tls = TlsServerConfig(**options["tls"]) if "tls" in options else None
    server = HttpServer.bind_many([*tcp, *unix], config, tls=tls)
say("pid", os.getpid(), "ports", *[addr.port for addr in server.local_addrs()])

if "drain_on_usr1" in options:
    signal.signal(signal.SIGUSR1, lambda *_: say(server.drain(options["drain_on_usr1"])))
if "drain_by_thread" in options:
    def wait():
        sys.stdin.readline()
        say(server.drain(options["drain_by_thread"]))
    threading.Thread(target=wait).start()
if "close_by_thread" in options:
    def wait():
        sys.stdin.readline()
        server.close()
    threading.Thread(target=wait).start()

def run():
    try:
        server.serve(handler, options.get("workers", 2), options.get("pin", True),
                     worker_kind=options.get("kind", "auto"))
        say("in all", json.dumps(dataclasses.asdict(server.stats())))
        say("returned")
    except KeyboardInterrupt:
        say("interrupted")
    except Exception as error:
        say("raised", type(error).__name__, error)

if options.get("off_main"):
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
else:
    run()
"""


class Program:
    """A server in a process of its own, and its workers. ``end`` kills what is left of it."""

    def __init__(self, env: dict[str, str] | None = None, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, **(env or {})},
            pass_fds=options.get("fds") or [options[n] for n in ("terminal",) if n in options],
        )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            pid, ports = self.until(r"^pid (\d+) ports(.*)")
        except BaseException:
            self.end()
            raise
        self.pid = int(pid)
        self.addresses: list[Address] = [("127.0.0.1", int(port)) for port in ports.split()]
        self.addresses += options.get("unix", [])
        self.address = self.addresses[0] if self.addresses else ""

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()

    def until(self, pattern: str, count: int = 1) -> tuple[str, ...]:
        """Wait until so many lines match; the groups of the last."""
        found: list[re.Match[str]] = []

        def enough() -> bool:
            found[:] = [m for m in (re.search(pattern, line) for line in self.lines) if m]
            return len(found) >= count or not self._reader.is_alive()

        with self._more:
            self._more.wait_for(enough, 2 * PATIENCE)
            enough()
            assert len(found) >= count, (pattern, self.lines)
        return found[count - 1].groups()

    def pids(self, path: str = "start") -> list[int]:
        """The processes that said *path*, in order."""
        return [int(m[1]) for m in (re.match(rf"{path} (\d+)", x) for x in self.lines) if m]

    def await_workers(self, count: int) -> list[int]:
        self.until(r"^start (\d+)", count)
        return self.pids()

    def tell(self) -> None:
        """Let the program's thread go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def end(self) -> None:
        """Kill all that is left: the session is the program's own."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.stdout.close()


Begin = Callable[..., Program]


class Load:
    """Clients that ask for "/" over and over. Half of them keep their connection for as long as
    the server lets them, half connect for each request."""

    def __init__(
        self,
        *addresses: Address,
        clients: int = 8,
        secure: Callable[[Peer], Peer] | None = None,
    ) -> None:
        self._secure = secure
        self._stop = False
        self._lock = threading.Lock()  # guards what follows
        self.answers: dict[int, int] = {}
        self.failures: list[tuple[int, BaseException]] = []
        """The process that had answered on the connection before, or 0, and what happened."""
        self.lost: list[BaseException] = []
        """Those failures of requests that were the first and only ones of their connection."""
        self._threads = [
            threading.Thread(target=self._run, args=(address, number % 2 == 0))
            for address in addresses
            for number in range(clients // len(addresses))
        ]

    def _run(self, address: Address, keeps: bool) -> None:
        peer: Peer | None = None
        server = 0
        while not self._stop:
            try:
                if peer is None:
                    server = 0
                    peer = Peer(address)
                    if self._secure is not None:
                        peer = self._secure(peer)
                peer.get("/", *([] if keeps else ["Connection: close"]))
                reply = peer.read()
                server = int(reply.body)
                with self._lock:
                    self.answers[server] = self.answers.get(server, 0) + 1
                if reply.get("connection") == "close":
                    peer.close()
                    peer = None
            except (OSError, AssertionError) as error:
                with self._lock:
                    self.failures.append((server, error))
                    if peer is not None and not keeps:
                        self.lost.append(error)
                if peer is not None:
                    peer.close()
                peer = None
                time.sleep(0.01)
        if peer is not None:
            peer.close()

    def until(self, condition: Callable[[dict[int, int]], bool]) -> None:
        """Wait until the answers so far are as wanted."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with self._lock:
                if condition(dict(self.answers)):
                    return
            assert time.monotonic() < deadline, (self.answers, self.failures)
            time.sleep(0.005)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join(PATIENCE)


def is_alive(pid: int) -> bool:
    """Whether a process that is not ours still runs."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def until_gone(*pids: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, [pid for pid in pids if is_alive(pid)]
        time.sleep(0.005)


def until_refused(address: Address) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(address, timeout=PATIENCE).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.005)
