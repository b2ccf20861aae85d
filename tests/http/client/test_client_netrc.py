"""Credentials from .netrc: only when asked for, only for the host that is connected to."""

from __future__ import annotations

import pytest
from scripted import ScriptedServer, answers, response

from flare.errors import ValidationError
from flare.http.client import BearerAuth, HttpClient
from flare.http.client.netrc_auth import NetrcCredentials
from flare.http.proto.url import UrlParseError

OK = response(b"done")
BASIC = b"Authorization: Basic bWU6c2VjcmV0"  # me:secret


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory with a .netrc for 127.0.0.1, and for everybody."""
    path = tmp_path / ".netrc"
    path.write_text(
        "machine 127.0.0.1 login me password secret\n"
        "machine EXAMPLE.com login a password b\n"
        "default login anybody password leaked\n"
    )
    path.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    return path


def sent(client_options, call_options=None, *, url_userinfo=""):
    with ScriptedServer([answers(OK)]) as server:
        with HttpClient(**client_options) as client:
            client.get(f"http://{url_userinfo}{server.peer}/", **(call_options or {}))
        return bytes(server.seen[0])


def test_it_is_not_read_unless_asked_for(home):
    assert b"Authorization" not in sent({})


def test_the_users_file_and_a_named_one(home, tmp_path, monkeypatch):
    assert BASIC in sent({"netrc": True})
    other = tmp_path / "other"
    home.rename(other)
    assert b"Authorization" not in sent({"netrc": True})
    assert BASIC in sent({"netrc": other})
    monkeypatch.setenv("NETRC", str(other))
    assert BASIC in sent({"netrc": True})


def test_everything_else_comes_first(home):
    assert b"Bearer x" in sent({"netrc": True}, {"auth": BearerAuth("x")})
    assert b"Authorization: own" in sent({"netrc": True}, {"headers": {"Authorization": "own"}})
    assert b"Bearer y" in sent({"netrc": True, "auth": BearerAuth("y")})
    assert BASIC not in sent({"netrc": True}, url_userinfo="u:p@")


def test_a_host_without_an_entry_gets_nothing_and_there_is_no_default(home):
    found = NetrcCredentials()
    assert found.find("localhost") is None
    assert found.find("default") is None
    assert found.find("example.com") is not None
    assert "leaked" not in repr(found)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:@localhost:{port}/", "http://127.0.0.1@localhost:{port}/"]
)
def test_the_host_is_the_one_connected_to(home, url):
    with ScriptedServer([answers(OK)]) as server, HttpClient(netrc=True) as client:
        client.get(url.format(port=server.port))
        assert BASIC not in bytes(server.seen[0])
        with pytest.raises(UrlParseError):
            client.get(rf"http://127.0.0.1\@localhost:{server.port}/")


def test_it_is_not_looked_up_for_where_a_redirect_leads(home):
    with ScriptedServer([answers(OK)]) as target, ScriptedServer([]) as first:
        first.scripts.append(
            answers(response(b"", "302 Found", f"Location: http://127.0.0.1:{target.port}/"))
        )
        with HttpClient(netrc=True) as client:
            client.get(f"http://localhost:{first.port}/")
        assert b"Authorization" not in bytes(target.seen[0])


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_in_the_home_that_others_can_read_is_refused(home, mode):
    home.chmod(mode)
    with pytest.raises(ValidationError, match="chmod"):
        HttpClient(netrc=True)


def test_what_is_no_such_file_is_an_error_that_quotes_nothing(tmp_path):
    bad = tmp_path / "bad"
    bad.write_text("machine x login me password\nhunter2 nonsense")
    with pytest.raises(ValidationError) as caught:
        HttpClient(netrc=bad)
    assert "hunter2" not in str(caught.value)
    assert "nonsense" not in str(caught.value)
    bad.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValidationError):
        HttpClient(netrc=bad)
    with pytest.raises(FileNotFoundError):
        HttpClient(netrc=tmp_path / "none")
