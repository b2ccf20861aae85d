"""Attempts of one call over the wire: what is tried again, how often, and what never is."""

from __future__ import annotations

import io
import threading
import time

import pytest
from scripted import Eof, Head, Reset, ScriptedServer, Send, Step, Whole, answers, response

from flare.errors import ConnectionRefused, ConnectionReset, NetworkError, ValidationError
from flare.http.client import CallTimeout, HttpClient
from flare.http.errors import HttpError, HttpProtocolError, TooManyRedirects
from flare.http.retry import RetryPolicy

OK = response(b"done")
BUSY = response(b"busy", "503 Service Unavailable")
THRICE = RetryPolicy(3)


def busy(retry_after: str) -> bytes:
    return response(b"", "503 Service Unavailable", f"Retry-After: {retry_after}")


def test_nothing_is_retried_by_default():
    with ScriptedServer([answers(BUSY)]) as server, HttpClient(server.base) as client:
        assert client.get("/").status == 503
        assert len(server.requests()) == 1


@pytest.mark.parametrize("how", ["client", "call", "chained"])
def test_a_status_is_tried_again_on_the_same_connection(how):
    with ScriptedServer([answers(BUSY, BUSY, OK)]) as server:
        given = {"retry": THRICE}
        with HttpClient(server.base, **(given if how == "client" else {})) as client:
            if how == "chained":
                client.with_retry()
            got = client.get("/", **(given if how == "call" else {}))
        assert got.body == b"done"
        assert len(server.requests()) == 3


def test_the_last_outcome_is_returned():
    with ScriptedServer([answers(BUSY, BUSY, BUSY)]) as server:
        with HttpClient(server.base, retry=THRICE) as client:
            got = client.get("/")
        assert (got.status, got.body) == (503, b"busy")
        assert len(server.requests()) == 3


@pytest.mark.parametrize("status", ["501 Not Implemented", "505 Version", "404 Not Found", "408 T"])
def test_statuses_that_say_never_are_the_answer(status):
    with ScriptedServer([answers(response(b"", status))]) as server:
        with HttpClient(server.base, retry=THRICE) as client:
            assert client.get("/").status == int(status[:3])
        assert len(server.requests()) == 1


def test_a_status_past_599_is_a_server_error():
    denied = response(b"", "999 Denied")
    with ScriptedServer([answers(denied, OK, denied)]) as server:
        with HttpClient(server.base) as client:
            assert client.get("/", retry=THRICE).body == b"done"
            got = client.get("/")
        assert server.connections == 1
    assert (got.status, got.reason, got.ok(), got.is_server_error()) == (999, "Denied", False, True)
    with pytest.raises(HttpError, match="999 Denied"):
        got.raise_for_status()


@pytest.mark.parametrize("method", ["POST", "PATCH", "QUERY"])
@pytest.mark.parametrize("failure", [[Whole(), Send(BUSY)], [Whole(), Reset()], [Whole()]])
def test_what_may_take_effect_twice_is_sent_once(method, failure):
    with ScriptedServer([failure, answers(OK)]) as server:
        with HttpClient(server.base, retry=THRICE) as client:
            try:
                assert client.request(method, "/", b"x").status == 503
            except NetworkError:
                assert len(failure) == 1 or isinstance(failure[1], Reset)
        assert server.connections == 1


def test_unless_the_caller_says_that_it_may():
    policy = RetryPolicy(retry_only_idempotent=False)
    with ScriptedServer([[Whole(), Reset()], answers(BUSY, OK)]) as server:
        with HttpClient(server.base) as client:
            assert client.post("/", b"payload", retry=policy).body == b"done"
        assert [bytes(raw).count(b"payload") for raw in server.seen] == [1, 2]


@pytest.mark.parametrize(
    "failure",
    [
        [Whole(), Reset()],
        [Whole()],
        [Whole(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")],
        [Whole(), Send(b"no HTTP at all\r\n\r\n")],
    ],
    ids=["reset", "closed", "cut short", "not http"],
)
def test_a_lost_connection_is_tried_again(failure):
    with ScriptedServer([failure, failure, answers(OK)]) as server:
        with HttpClient(server.base, retry=THRICE) as client:
            assert client.get("/").body == b"done"
        assert server.connections == 3


def test_the_last_error_is_raised_unchanged():
    with ScriptedServer([[Whole(), Reset()]] * 3) as server:
        with HttpClient(server.base, retry=THRICE) as client, pytest.raises(ConnectionReset):
            client.get("/")
        assert server.connections == 3


def test_a_silent_server_is_tried_again_within_the_one_deadline():
    silent: list[Step] = [Whole(), Eof()]
    # Of the many attempts one is answered in time, however slow the machine.
    with ScriptedServer([silent, *[answers(OK)] * 9]) as server:
        with HttpClient(server.base, read_timeout_ms=100, retry=RetryPolicy(10)) as client:
            assert client.get("/").body == b"done"
        assert server.connections >= 2
    with ScriptedServer([[*answers(OK), *silent], silent]) as server:
        with HttpClient(server.base, retry=THRICE) as client:
            assert client.get("/").ok  # so that the time does not go to connecting
            with pytest.raises(CallTimeout):
                client.get("/", timeout_ms=100)
        assert server.connections == 1


def test_refused_connections_are_tried_again():
    counted = _Refusing(2)
    with ScriptedServer([answers(OK)]) as server:
        with HttpClient(server.base, transport=counted, retry=THRICE) as client:
            assert client.get("/").body == b"done"
        assert counted.dialled == 3
    counted = _Refusing(9)
    with HttpClient(transport=counted, retry=RetryPolicy(3, connect=1)) as client:
        with pytest.raises(ConnectionRefused):
            client.get("http://127.0.0.1:1/")
    assert counted.dialled == 2


class _Refusing:
    """Refuses so many times, then connects."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.dialled = 0

    def connect(self, host: str, port: int, deadline: float | None) -> object:
        from flare.tcp import TcpStream

        self.dialled += 1
        if self.dialled <= self.times:
            raise ConnectionRefused(f"{host}:{port}")
        return TcpStream.connect(host, port, 10_000)


@pytest.mark.parametrize(
    ("policy", "scripts", "connections"),
    [
        (RetryPolicy(3, read=0), [[Whole(), Reset()]], 1),
        (RetryPolicy(3, read=1), [[Whole(), Reset()]] * 2, 2),
        (RetryPolicy(1), [[Whole(), Reset()]], 1),
        (RetryPolicy(0), [[Whole(), Reset()]], 1),
        (RetryPolicy(9, read=0, status=5), [[Whole(), Send(BUSY), Head(), Reset()]], 2),
    ],
)
def test_each_kind_has_a_limit_of_its_own(policy, scripts, connections):
    with ScriptedServer([*scripts, [Whole(), Reset()], answers(OK)]) as server:
        with HttpClient(server.base, retry=policy) as client, pytest.raises(NetworkError):
            client.get("/")
        assert server.connections == connections


def test_status_retries_can_be_off_while_others_are_on():
    with ScriptedServer([[Whole(), Reset()], answers(BUSY)]) as server:
        with HttpClient(server.base, retry=RetryPolicy(3, status=0)) as client:
            assert client.get("/").status == 503
        assert server.connections == 2


def test_a_wait_of_years_is_cut_to_the_cap():
    with ScriptedServer([answers(busy("31536000"), OK)]) as server:
        with HttpClient(server.base, retry=RetryPolicy(max_backoff_ms=1)) as client:
            assert client.get("/").body == b"done"


def test_a_wait_past_the_deadline_is_not_begun():
    with ScriptedServer([answers(busy("31536000"))]) as server:
        policy = RetryPolicy(max_backoff_ms=0)
        with HttpClient(server.base, retry=policy) as client:
            started = time.monotonic()
            assert client.get("/").status == 503
            assert time.monotonic() - started < 25


def test_close_ends_the_wait_for_another_attempt():
    answered = threading.Event()
    with ScriptedServer([answers(busy("20"))]) as server:
        client = HttpClient(
            server.base, retry=RetryPolicy(max_backoff_ms=0), on_response=lambda _: answered.set()
        )
        failures: list[BaseException] = []

        def call() -> None:
            try:
                client.get("/")
            except NetworkError as exc:
                failures.append(exc)

        thread = threading.Thread(target=call)
        thread.start()
        assert answered.wait(10)
        client.close()
        thread.join(10)
        assert not thread.is_alive()
        assert "closed" in str(failures[0])


def test_a_file_is_sent_again_from_where_it_stood_and_an_iterator_is_not():
    with ScriptedServer([answers(BUSY, OK)]) as server:
        with HttpClient(server.base, retry=THRICE) as client:
            file = io.BytesIO(b"xxpayload")
            file.seek(2)
            assert client.put("/", file).body == b"done"
        assert bytes(server.seen[0]).count(b"\r\n\r\npayload") == 2
    with ScriptedServer([answers(BUSY)]) as server:
        with HttpClient(server.base, retry=THRICE) as client:
            assert client.put("/", iter([b"once"])).status == 503


def test_redirects_are_part_of_what_is_repeated_and_their_limit_is_not_retried():
    moved = response(b"", "302 Found", "Location: /there")
    with ScriptedServer([answers(moved, BUSY, moved, OK)]) as server:
        with HttpClient(server.base, retry=THRICE) as client:
            got = client.get("/here")
        assert len(got.history) == 1
        assert [head.split()[1] for head in server.requests()] == [b"/here", b"/there"] * 2
    with ScriptedServer([answers(moved)]) as server:
        with HttpClient(server.base, retry=THRICE, max_redirects=0) as client:
            with pytest.raises(TooManyRedirects):
                client.get("/")
        assert server.connections == 1


def test_a_body_past_its_limit_is_not_asked_for_again():
    with ScriptedServer([answers(response(b"x" * 100))]) as server:
        with HttpClient(server.base, retry=THRICE, max_response_bytes=10) as client:
            with pytest.raises(NetworkError):
                client.get("/")
        assert server.connections == 1


def test_a_stream_is_retried_up_to_its_head():
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
    with ScriptedServer([answers(BUSY, OK), [Whole(), Send(cut)]]) as server:
        with HttpClient(server.base, retry=THRICE) as client:
            with client.get("/", stream=True) as download:
                assert download.read_all() == b"done"
        with HttpClient(server.base, retry=THRICE) as client:
            with client.get("/", stream=True) as download, pytest.raises(HttpProtocolError):
                download.read_all()
        assert server.connections == 2


def test_hooks_see_every_attempt():
    seen: list[object] = []
    with ScriptedServer([answers(BUSY, OK)]) as server:
        with HttpClient(
            server.base,
            retry=THRICE,
            on_request=lambda request: seen.append(request.method),
            on_response=lambda response: seen.append(response.status),
        ) as client:
            client.get("/")
    assert seen == ["GET", 503, "GET", 200]


@pytest.mark.parametrize("bad", [3, "3", True])
def test_a_policy_is_a_policy(bad):
    with pytest.raises(TypeError):
        HttpClient(retry=bad)
    with HttpClient() as client, pytest.raises(TypeError):
        client.get("http://127.0.0.1:1/", retry=bad)


def test_bad_arguments_are_not_retried():
    with HttpClient(retry=THRICE) as client, pytest.raises(ValidationError):
        client.get("http://127.0.0.1:1/", timeout=-1)


def test_a_body_that_cannot_be_set_back_costs_no_connection():
    class Torn(io.BytesIO):
        def seek(self, *where):
            raise OSError("torn")

    with ScriptedServer([answers(BUSY)]) as server:
        with HttpClient(server.base, retry=THRICE) as client:
            with pytest.raises(OSError, match="torn"):
                client.put("/", Torn(b"body"))
            assert "active=0" in repr(client)
