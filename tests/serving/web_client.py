"""A web client that shows what a server responds."""

import base64
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tests.mount.support.programs import LIMIT_S
from tests.serving.running_server import HOST

_RECEIVE_BUFFER_BYTES: Final = 4096


@dataclass(frozen=True)
class Answer:
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def length(self) -> int:
        """The announced length of the body."""
        return int(self.headers["content-length"])


@dataclass(frozen=True)
class WebClient:
    """A user of a server; with an authority, the server has a certificate of ``localhost``."""

    port: int
    account: str
    password: str
    authority: Path | None = None

    def with_password(self, password: str) -> "WebClient":
        """Return the same user with another password."""
        return replace(self, password=password)

    def is_certified(self) -> bool:
        """Return whether the server has a certificate that the client trusts."""
        try:
            self.request("HEAD", "/")
        except OSError:
            return False
        return True

    def request(self, method: str, path: str, body: str = "", **headers: str) -> Answer:
        """Make one request on a new connection, and read the response to its end.

        Raises `http.client.IncompleteRead` if it ends before the announced length.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(self._connection()) as connection:
            connection.request(method, path, body, {**self._login, **named})
            return _answer(connection.getresponse())

    @contextmanager
    def slow_get(self, path: str) -> Iterator[HTTPResponse]:
        """Request a file, and leave it to the caller to read more than the headers."""
        connection = self._connection()
        connection.sock = self._socket_with_small_buffer()
        with closing(connection):
            connection.request("GET", path, headers=self._login)
            yield connection.getresponse()

    @property
    def _login(self) -> dict[str, str]:
        login = base64.b64encode(f"{self.account}:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {login}"}

    def _connection(self) -> HTTPConnection:
        if self._tls is None:
            return HTTPConnection(HOST, self.port, timeout=LIMIT_S)
        return HTTPSConnection("localhost", self.port, timeout=LIMIT_S, context=self._tls)

    def _socket_with_small_buffer(self) -> socket.socket:
        plain = socket.socket()
        plain.settimeout(LIMIT_S)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        plain.connect((HOST, self.port))
        return self._tls.wrap_socket(plain, server_hostname="localhost") if self._tls else plain

    @property
    def _tls(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=self.authority) if self.authority else None


def _answer(response: HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, MappingProxyType(headers), response.read())
