"""The proxy that the benchmark puts before a server to delay everything."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from time import monotonic

import pytest

from tests.bench.delaying_proxy import running_proxy

DELAY_S = 0.1
SENT = bytes(range(256)) * 4_000  # far more than fits into one segment


@pytest.fixture
def echo_port() -> Iterator[int]:
    """The port of a server that sends back what it receives, and then hangs up."""

    def echo() -> None:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def send_all(connection: socket.socket) -> None:
    connection.sendall(SENT)
    connection.shutdown(socket.SHUT_WR)


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_proxy_forwards_all_bytes_in_order_and_the_end_after_two_round_trips(
    echo_port: int,
) -> None:
    with running_proxy(echo_port, DELAY_S) as port:
        began_s = monotonic()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            threading.Thread(target=send_all, args=(connection,), daemon=True).start()
            assert connection.recv(1, socket.MSG_PEEK) == SENT[:1]
            took_s = monotonic() - began_s
            assert read_all(connection) == SENT
    # The handshake takes one of them. Nothing that is slow can make it less.
    assert took_s >= 4 * DELAY_S
