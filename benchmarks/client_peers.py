"""The clients that are compared, each used as its own documentation does it.

They run in a process of their own (see ``client_worker``), so each imports its library when it is
made. All have a timeout, as a program that means to end has.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

__all__ = ["CLIENTS", "H2_CLIENTS", "Client", "ClientPeer", "make_client"]

_SECONDS = 30
_COPY_BYTES = 65536


class Client(Protocol):
    """A client of one server, which keeps its connection."""

    def get(self, path: str) -> bytes:
        """The body of a 200."""
        ...

    def save(self, path: str, target: Path) -> None:
        """Download into a file."""
        ...

    def send(self, path: str, source: Path) -> None:
        """Upload a file by PUT."""
        ...

    def close(self) -> None: ...


class WrongAnswer(Exception):
    """The status was not 200."""


def _check(status: int) -> None:
    if status != 200:
        raise WrongAnswer(f"expected 200, got {status}")


class _Flare:
    def __init__(self, base: str, *, http2: bool = False) -> None:
        from flare.http import HttpClient

        self._base = base
        self._client = HttpClient(prefer_h2c=http2)

    def get(self, path: str) -> bytes:
        response = self._client.get(self._base + path)
        _check(response.status)
        return response.body

    def save(self, path: str, target: Path) -> None:
        self._client.download(self._base + path, target)

    def send(self, path: str, source: Path) -> None:
        with source.open("rb") as file:
            _check(self._client.put(self._base + path, file).status)

    def close(self) -> None:
        self._client.close()


class _HttpClient:
    def __init__(self, base: str) -> None:
        import http.client

        self._connection = http.client.HTTPConnection(base.split("//")[1], timeout=_SECONDS)

    def get(self, path: str) -> bytes:
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        _check(response.status)
        return response.read()

    def save(self, path: str, target: Path) -> None:
        import shutil

        self._connection.request("GET", path)
        response = self._connection.getresponse()
        _check(response.status)
        with target.open("wb") as file:
            shutil.copyfileobj(response, file)

    def send(self, path: str, source: Path) -> None:
        size = str(source.stat().st_size)
        with source.open("rb") as file:
            self._connection.request("PUT", path, file, {"Content-Length": size})
            response = self._connection.getresponse()
            response.read()
            _check(response.status)

    def close(self) -> None:
        self._connection.close()


class _Urllib3:
    def __init__(self, base: str) -> None:
        import urllib3

        self._base = base
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(_SECONDS))

    def get(self, path: str) -> bytes:
        response = self._pool.request("GET", self._base + path)
        _check(response.status)
        data: bytes = response.data
        return data

    def save(self, path: str, target: Path) -> None:
        import shutil

        response = self._pool.request("GET", self._base + path, preload_content=False)
        _check(response.status)
        with target.open("wb") as file:
            shutil.copyfileobj(response, file)
        response.release_conn()

    def send(self, path: str, source: Path) -> None:
        size = str(source.stat().st_size)
        with source.open("rb") as file:
            headers = {"Content-Length": size}
            response = self._pool.request("PUT", self._base + path, body=file, headers=headers)
        _check(response.status)

    def close(self) -> None:
        self._pool.clear()


class _Httpx:
    def __init__(self, base: str, *, http2: bool = False) -> None:
        import httpx

        self._base = base
        self._client = httpx.Client(timeout=_SECONDS, http1=not http2, http2=http2)

    def get(self, path: str) -> bytes:
        response = self._client.get(self._base + path)
        _check(response.status_code)
        data: bytes = response.content
        return data

    def save(self, path: str, target: Path) -> None:
        with self._client.stream("GET", self._base + path) as response, target.open("wb") as file:
            _check(response.status_code)
            for chunk in response.iter_bytes():
                file.write(chunk)

    def send(self, path: str, source: Path) -> None:
        size = str(source.stat().st_size)
        with source.open("rb") as file:
            headers = {"Content-Length": size}
            response = self._client.put(self._base + path, content=file, headers=headers)
        _check(response.status_code)

    def close(self) -> None:
        self._client.close()


class _Requests:
    def __init__(self, base: str) -> None:
        import requests

        self._base = base
        self._session = requests.Session()

    def get(self, path: str) -> bytes:
        response = self._session.get(self._base + path, timeout=_SECONDS)
        _check(response.status_code)
        data: bytes = response.content
        return data

    def save(self, path: str, target: Path) -> None:
        url = self._base + path
        with self._session.get(url, timeout=_SECONDS, stream=True) as response:
            _check(response.status_code)
            with target.open("wb") as file:
                for chunk in response.iter_content(_COPY_BYTES):
                    file.write(chunk)

    def send(self, path: str, source: Path) -> None:
        with source.open("rb") as file:
            response = self._session.put(self._base + path, data=file, timeout=_SECONDS)
        _check(response.status_code)

    def close(self) -> None:
        self._session.close()


class _Pycurl:
    def __init__(self, base: str) -> None:
        import pycurl  # type: ignore[import-untyped,unused-ignore]

        self._base = base
        self._curl: Any = pycurl.Curl()
        self._curl.setopt(pycurl.TIMEOUT, _SECONDS)
        self._curl.setopt(pycurl.CONNECTTIMEOUT, _SECONDS)
        self._curl.setopt(pycurl.NOSIGNAL, 1)

    def _perform(self, path: str, output: Any) -> None:
        curl = self._curl
        curl.setopt(curl.URL, self._base + path)
        curl.setopt(curl.WRITEDATA, output)
        curl.perform()
        _check(curl.getinfo(curl.RESPONSE_CODE))

    def get(self, path: str) -> bytes:
        from io import BytesIO

        output = BytesIO()
        self._perform(path, output)
        return output.getvalue()

    def save(self, path: str, target: Path) -> None:
        with target.open("wb") as file:
            self._perform(path, file)

    def send(self, path: str, source: Path) -> None:
        from io import BytesIO

        curl = self._curl
        with source.open("rb") as file:
            curl.setopt(curl.UPLOAD, 1)
            curl.setopt(curl.READDATA, file)
            curl.setopt(curl.INFILESIZE_LARGE, source.stat().st_size)
            curl.setopt(curl.HTTPHEADER, ["Expect:"])
            self._perform(path, BytesIO())
            curl.setopt(curl.HTTPGET, 1)

    def close(self) -> None:
        self._curl.close()


@dataclass(frozen=True)
class ClientPeer:
    """A client: *packages* are those whose versions are told, *imports* what a program says."""

    name: str
    title: str
    packages: tuple[str, ...]
    imports: str
    make: Any


CLIENTS: dict[str, ClientPeer] = {
    peer.name: peer
    for peer in (
        ClientPeer("flare", "flare", ("flare",), "from flare.http import get", _Flare),
        ClientPeer("http.client", "http.client", (), "import http.client", _HttpClient),
        ClientPeer("urllib3", "urllib3", ("urllib3",), "import urllib3", _Urllib3),
        ClientPeer("httpx", "httpx", ("httpx", "httpcore"), "import httpx", _Httpx),
        ClientPeer("requests", "requests.Session", ("requests",), "import requests", _Requests),
        ClientPeer("pycurl", "pycurl", ("pycurl",), "import pycurl", _Pycurl),
    )
}
"""In the order of measuring and telling; flare is what the others are compared with."""

H2_CLIENTS: dict[str, ClientPeer] = {
    peer.name: peer
    for peer in (
        ClientPeer("flare-h2", "flare", ("flare",), "", partial(_Flare, http2=True)),
        ClientPeer("httpx-h2", "httpx[http2]", ("httpx", "h2"), "", partial(_Httpx, http2=True)),
    )
}
"""Those that speak HTTP/2 by prior knowledge."""


def make_client(name: str, base: str) -> Client:
    """The client of that name, of the server at *base*."""
    client: Client = (CLIENTS | H2_CLIENTS)[name].make(base)
    return client
