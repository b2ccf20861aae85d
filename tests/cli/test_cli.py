"""The command line: what it prints, and the one line and exit code for what cannot be meant."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flare import Request, Response, SocketAddr, get, ok
from flare.cli import main
from flare.cli.reload import snapshot
from flare.testing import running_server

DEADLINE = 20


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "flare", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        **options,
    )


@contextmanager
def started(*arguments: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on running; killed at the end if it still does."""
    program = subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-m", "flare", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    try:
        yield program
    finally:
        if program.poll() is None:
            program.kill()
        program.communicate()


def read_until(program: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Read lines until one matches. The test's own deadline ends the wait."""
    assert program.stdout is not None
    seen = []
    for line in program.stdout:
        seen.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"the program ended without {pattern!r}: {seen}")


def stop(program: subprocess.Popen[str], number: int = signal.SIGINT) -> int:
    program.send_signal(number)
    return program.wait(DEADLINE)


APP = """
from flare import Router, ok

router = Router()
router.get("/", lambda request: ok("first"))

def plain(request):
    return ok("plain")

class Holder:
    handler = staticmethod(plain)

number = 5
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "wrong.py").write_text("def f(:\n")
    (tmp_path / "raises.py").write_text("raise RuntimeError('two\\nlines')\n")
    (tmp_path / "leaves.py").write_text("import sys; sys.exit(3)\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve", "app"], "expected module:handler, got 'app'"),
        (["serve", ":router"], "expected module:handler"),
        (["serve", "missing:router"], "there is no module 'missing' here"),
        (["serve", "./app:router"], "'./app' is a path.*; did you mean app:router\\?"),
        (["serve", "../sub/app.py:a.b"], "is a path.*; did you mean sub.app:a.b\\?"),
        (["serve", ".app:router"], "'.app' is a path.*; did you mean app:router\\?"),
        (["serve", "..:router"], "'..' is a path, not the name of a module$"),
        (["serve", "app.py:router"], "no module 'app.py' here; did you mean app:router\\?"),
        (["serve", "app.sub:router"], "cannot import 'app.sub'|there is no module 'app.sub' here"),
        (["serve", "app:nothing"], "module 'app' has no 'nothing'"),
        (["serve", "app:number"], "app:number: .*handler"),
        (["serve", "app:Holder"], "app:Holder: .*handler"),
        (["serve", "broken:x"], "cannot import 'broken': ModuleNotFoundError.*broken.py:1"),
        (["serve", "wrong:f"], "cannot import 'wrong': SyntaxError.*wrong.py:1"),
        (["serve", "raises:f"], "cannot import 'raises': RuntimeError: two lines.*raises.py:1"),
        (["serve", "leaves:f"], "cannot import 'leaves': SystemExit: 3"),
        (["serve", "app:plain", "--port", "65536"], "--port takes 0 to 65535"),
        (["serve", "app:plain", "--port", "-1"], "--port takes 0 to 65535"),
        (["serve", "app:plain", "--host", "no such host"], "--host"),
        (["serve", "app:plain", "--port", "0", "--workers", "257"], "--workers: at most 256"),
        (["serve", "app:plain", "--bind", "fd://0"], "0 is no stream socket|cannot listen"),
        (["serve", "app:plain", "--bind", "fd://x"], "--bind fd://x: expected a number"),
        (["serve", "app:plain", "--bind", "fd://0", "--bind", "unix:s"], "fd://N does not go with"),
        (["serve", "app:plain", "--bind", "unix:"], "--bind unix:: there is no path"),
        (["serve", "app:plain", "--bind", "unix:" + "x" * 200], "--bind: must be at most"),
        (["serve", "app:plain", "--bind", "unix:s", "--socket-mode", "9"], "--socket-mode takes"),
        (["serve", "app:plain", "--bind", "unix:s", "--socket-mode", "7777"], "--socket-mode: "),
        (["serve", "app:plain", "--bind", "unix:app.py"], "app.py is in use"),
        (["serve", "app:plain", "--bind", "unix:no/such/s"], "cannot listen"),
        (["serve", "app:plain", "--bind", "127.0.0.1"], "--bind 127.0.0.1: expected HOST:PORT"),
        (["serve", "app:plain", "--bind", "::1:80"], "--bind ::1:80: expected HOST:PORT"),
        (["serve", "app:plain", "--bind", "127.0.0.1:x"], "--bind 127.0.0.1:x: expected"),
        (["serve", "app:plain", "--bind", "127.0.0.1:99999"], "takes 0 to 65535, got 99999"),
        (["serve", "app:plain", "--bind", "127.0.0.1:0", "--port", "1"], "--bind does not go with"),
        (["serve", "app:plain", "--trusted-proxies", "10.0.0.1/8"], "--trusted-proxies: "),
        (["serve", "app:plain", "--forwarded-headers", "via"], "--forwarded-headers: there is no"),
        (["serve", "app:plain", "--proxy-protocol"], "--proxy-protocol: nobody is in trusted"),
        (["demo", "--port", "70000"], "--port takes 0 to 65535"),
        (["get", "nonsense"], "bad URL 'nonsense': it must begin with http://"),
        (["get", "127.0.0.1:80/"], "bad URL '127.0.0.1:80/': it must begin with http://"),
        (["get", "ftp://127.0.0.1/"], "bad URL"),
        (["get", "http://"], "bad URL"),
        (["get", "http://127.0.0.1:1/", "-H", "no colon"], "-H takes 'Name: value'"),
        (["get", "http://127.0.0.1:1/", "-H", "bad name: x"], "-H 'bad name: x'"),
        (["get", "http://127.0.0.1:1/", "-X", "BAD METHOD"], "method"),
        (["get", "http://127.0.0.1:1/", "-X", ""], "method"),
        (["get", "http://127.0.0.1:1/", "-d", "@no/such/file"], "-d @no/such/file"),
        (["get", "http://127.0.0.1:1/", "--timeout", "nan"], "timeout.*got nan"),
        (["get", "http://127.0.0.1:1/", "--timeout", "inf"], "timeout.*got inf"),
        (["get", "http://127.0.0.1:1/", "--timeout", "-1"], "timeout.*got -1"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_command_that_cannot_be_meant_gets_one_line(
    arguments: list[str], says: str, app: Path, monkeypatch, capfd
) -> None:
    monkeypatch.chdir(app)
    monkeypatch.syspath_prepend(str(app))
    for name in ("app", "broken", "wrong", "raises", "leaves"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    try:
        code = main(arguments)
    finally:
        for name in ("app", "broken", "wrong", "raises", "leaves"):
            sys.modules.pop(name, None)
    error = capfd.readouterr().err
    assert code == 2
    assert re.search(says, error), error
    assert error.count("\n") == 1
    assert error.startswith("flare: ")


def test_an_unknown_command_is_exit_code_2() -> None:
    assert run("nonsense").returncode == 2
    assert run().returncode == 2


def test_the_version_is_printed() -> None:
    assert re.fullmatch(r"flare \d+\.\d+\.\d+\n", run("--version").stdout)


def test_a_busy_port_is_told_in_one_line(app: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for command in (["serve", "app:plain"], ["demo"], ["serve", "app:plain", "--reload"]):
            done = run(*command, "--port", str(port), cwd=app)
            assert done.returncode == 2
            assert done.stderr.count("\n") == 1
            assert f"127.0.0.1:{port} is in use" in done.stderr


def test_a_port_that_another_flare_serves_is_busy() -> None:
    with running_server(lambda request: ok()) as server:
        done = run("demo", "--port", str(server.local_addr().port))
    assert done.returncode == 2
    assert "is in use" in done.stderr


def test_the_demo_fetches_each_of_its_routes_and_stops() -> None:
    done = run("demo", "--port", "0", "--once")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    found = {(row[0], row[1]): row[2] for row in rows if len(row) > 3}
    assert found[("GET", "/")] == "200"
    assert found[("GET", "/hello/world")] == "200"
    assert found[("POST", "/echo")] == "200"
    assert found[("GET", "/stream")] == "200"
    assert found[("GET", "/no/such/page")] == "404"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_serves_on_until_told_to_stop(number: int) -> None:
    with started("demo", "--port", "0") as program:
        base = read_until(program, r"Serving on (http://\S+/) and https")[1]
        page = get(base)
        assert "<title>flare</title>" in page.text()
        assert page.headers.get("content-type") == "text/html; charset=utf-8"
        assert get(base + "stream").text().count("\n") == 100
        assert stop(program, number) == 0


def test_serve_serves_a_router_and_stops_at_ctrl_c(app: Path) -> None:
    with started("serve", "app:router", "--port", "0", "--access-log", cwd=app) as program:
        base = read_until(program, r"app:router on (http://\S+/)")[1]
        assert get(base).text() == "first"
        assert read_until(program, r'"GET / HTTP/1.1" 200 5 ')
        assert stop(program) == 0


def test_serve_takes_a_dotted_name_and_several_workers(app: Path) -> None:
    command = ["serve", "app:Holder.handler", "--port", "0", "--workers", "3"]
    with started(*command, cwd=app) as program:
        base = read_until(program, r"on (http://\S+/) \(3 workers\)")[1]
        assert [get(base).text() for _ in range(8)] == ["plain"] * 8
        assert stop(program, signal.SIGTERM) == 0


def test_serve_with_reload_takes_new_code_without_refusing_a_connection(app: Path) -> None:
    with started("serve", "app:router", "--port", "0", "--reload", cwd=app) as program:
        base = read_until(program, r"on (http://\S+/)")[1]
        assert get(base).text() == "first"
        (app / "app.py").write_text(APP.replace("first", "the second"))
        answers = set()
        deadline = time.monotonic() + DEADLINE
        while "the second" not in answers:
            assert time.monotonic() < deadline
            answers.add(get(base).text())
        assert answers <= {"first", "the second"}
        (app / "app.py").write_text("def f(:\n")
        read_until(program, "SyntaxError")
        (app / "app.py").write_text(APP.replace("first", "third"))
        assert get(base).text() == "third"
        assert stop(program) == 0


def test_the_watch_sees_a_change_that_comes_while_the_child_starts(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = []

    class Child:
        def poll(self) -> int:
            return 0

        def wait(self, seconds: float) -> int:
            return 0

    def popen(command: list[str], **_: object) -> Child:
        children.append(command)
        if len(children) == 1:
            (app / "app.py").write_text(APP.replace("first", "the second"))
        else:
            signal.raise_signal(signal.SIGTERM)
        return Child()

    monkeypatch.chdir(app)
    monkeypatch.setattr(subprocess, "Popen", popen)
    assert main(["serve", "app:router", "--port", "0", "--reload"]) == 0
    assert len(children) == 2


def test_the_watch_sees_a_changed_a_new_and_a_removed_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.py").write_text("")
    (tmp_path / "a.py").write_text("")
    (tmp_path / "a.txt").write_text("")
    before = snapshot(str(tmp_path))
    assert [os.path.basename(path) for path in before] == ["a.py"]
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "sub" / "b.py").write_text("")
    after = snapshot(str(tmp_path))
    assert sorted(os.path.basename(path) for path in after) == ["a.py", "b.py"]
    assert after[str(tmp_path / "a.py")] != before[str(tmp_path / "a.py")]


def show(request: Request) -> Response:
    text = f"{request.method} {request.headers.get('x-one')} {request.text()}"
    return Response(201, body=text, headers={"X-Kind": request.headers.get("content-type")})


def test_get_prints_the_body_and_with_i_the_head(capfd) -> None:
    with running_server(show) as server:
        base = f"http://{server.local_addr()}/"
        assert main(["get", base, "-H", "X-One: 1"]) == 0
        assert capfd.readouterr().out == "GET 1 "
        assert main(["get", base, "-i", "-X", "PUT", "-d", "a=b"]) == 0
    head, _, body = capfd.readouterr().out.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 201 Created\r\n")
    assert "X-Kind: application/x-www-form-urlencoded" in head
    assert body == "PUT  a=b"


def test_get_takes_data_from_a_file(tmp_path: Path, capfd) -> None:
    (tmp_path / "data").write_bytes(b"from a file")
    with running_server(show) as server:
        assert main(["get", f"http://{server.local_addr()}/", "-d", f"@{tmp_path / 'data'}"]) == 0
    assert capfd.readouterr().out == "POST  from a file"


def test_get_sends_data_byte_by_byte_as_it_was_typed(capfd) -> None:
    with running_server(lambda request: ok(request.body.hex())) as server:
        assert main(["get", f"http://{server.local_addr()}/", "-d", os.fsdecode(b"\xff")]) == 0
    assert capfd.readouterr().out == "ff"


def test_a_timeout_of_less_than_a_millisecond_is_not_none(capfd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        assert main(["get", f"http://{host}:{port}/", "--timeout", "0.0001"]) == 1
    assert "Timeout" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("closed", "arguments", "says"),
    [("stdout", [], "standard output is closed"), ("stdin", ["-d", "@-"], "standard input is")],
)
def test_a_closed_stream_that_is_needed_gets_one_line(
    closed: str, arguments: list[str], says: str, monkeypatch, capfd
) -> None:
    monkeypatch.setattr(sys, closed, None)  # what Python does with a closed descriptor
    assert main(["get", "http://127.0.0.1:1/", *arguments]) == 2
    error = capfd.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_the_demo_stops_where_its_output_takes_no_text() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "flare", "demo", "--port", "0"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE,
        )  # fmt: skip
    assert ended.returncode == 1
    assert "No space left" in ended.stderr


def test_the_demo_prints_plain_ascii() -> None:
    ended = run("demo", "--once", "--port", "0", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (ended.returncode, ended.stderr) == (0, "")


def test_get_of_a_peer_that_is_not_there_is_exit_code_1(capfd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        addr = SocketAddr.from_sockaddr(probe.getsockname())
    assert main(["get", f"http://{addr}/"]) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert str(addr) in error


def test_the_child_of_reload_goes_with_its_parent(app: Path) -> None:
    with started("serve", "app:router", "--port", "0", "--reload", cwd=app) as program:
        base = read_until(program, r"on (http://\S+/)")[1]
        [child] = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
        program.kill()
        deadline = time.monotonic() + DEADLINE
        while Path(f"/proc/{child}").exists():
            assert time.monotonic() < deadline, f"{base} is served by an orphan"
            time.sleep(0.02)
