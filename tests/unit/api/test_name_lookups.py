"""Name lookups with a resolver that responds, refuses or hangs."""

import socket
import threading
from collections.abc import Iterator

import pytest

from invoicefs.api import name_lookups
from invoicefs.api.name_lookups import addresses_of
from invoicefs.errors import OutOfMemory

HANG_S = 20.0
FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]


class Resolver:
    """A resolver that hangs until `responds` is set; it has no numeric hosts."""

    def __init__(self) -> None:
        self.has_begun, self.responds = threading.Event(), threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self, *_: object, flags: int = 0, **__: object) -> object:
        if flags == socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.threads.append(threading.current_thread())
        self.has_begun.set()
        assert self.responds.wait(HANG_S)
        return FOUND


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.responds.set()
    for thread in resolver.threads:
        if thread is not threading.current_thread():
            thread.join(HANG_S)


@pytest.mark.usefixtures("resolver")
@pytest.mark.parametrize(("timeout_s", "limit_s"), [(0.01, HANG_S), (HANG_S, 0.01), (-1.0, HANG_S)])
def test_a_lookup_that_hangs_fails_as_the_resolver_would(
    monkeypatch: pytest.MonkeyPatch, timeout_s: float, limit_s: float
) -> None:
    monkeypatch.setattr(name_lookups, "LOOKUP_TIMEOUT_S", limit_s)
    with pytest.raises(socket.gaierror) as failed:
        addresses_of("tenant.example", 443, timeout_s)

    assert failed.value.errno == socket.EAI_AGAIN


def test_the_next_lookup_succeeds_while_an_earlier_one_still_hangs(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(socket.gaierror):
        addresses_of("tenant.example", 443, timeout_s=0.01)
    assert resolver.has_begun.wait(HANG_S)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: FOUND)

    assert addresses_of("tenant.example", 443, timeout_s=HANG_S) == FOUND
    assert resolver.threads[0].is_alive()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]"])
def test_an_address_needs_no_thread(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delattr(name_lookups, "start_thread")

    ((_, _, _, _, address),) = addresses_of(host, 443, timeout_s=0.0)

    assert address[:2] == (host.strip("[]"), 443)


def test_without_another_thread_the_name_is_looked_up_in_this_one(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object) -> None:
        raise OutOfMemory("this machine allows no more threads at the moment")

    monkeypatch.setattr(name_lookups, "start_thread", no_thread)
    resolver.responds.set()

    assert addresses_of("tenant.example", 443, timeout_s=HANG_S) == FOUND
