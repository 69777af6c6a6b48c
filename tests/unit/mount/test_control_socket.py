"""The control socket of a mount: permitted users, responses, and malformed requests."""

import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invoicefs.errors import Unreachable, UserError
from invoicefs.mount import control_socket as control
from invoicefs.mount.control_socket import ControlSocket, send

# Device numbers that no filesystem has, different in every process.
DEVICES = (f"9999:{os.getpid()}{number}" for number in itertools.count())

Serve = Callable[..., str]


def echo(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"asked": dict(request)}


@pytest.fixture
def device() -> str:
    return next(DEVICES)


@pytest.fixture
def serve(device: str) -> Iterator[Serve]:
    """Return a function that opens a control socket and returns its device number."""
    with ExitStack() as stack:

        def serve(
            answer: Callable[[Mapping[str, Any]], Mapping[str, Any]] = echo, at: str = device
        ) -> str:
            socket_of_mount = stack.enter_context(closing(ControlSocket(answer)))
            socket_of_mount.open(at)
            return at

        yield serve


def address_of(device: str) -> str:
    return f"\0invoicefs/{os.geteuid()}/{device}"


def test_every_mount_responds_on_its_own_socket(serve: Serve) -> None:
    one, two = (serve(lambda _, name=name: {"is": name}, next(DEVICES)) for name in ("one", "two"))

    assert send(one, {}) == {"is": "one"}
    assert send(two, {}) == {"is": "two"}


def test_closing_removes_the_socket(device: str) -> None:
    control = ControlSocket(echo)
    control.open(device)
    control.close()

    assert send(device, {}) is None


def test_a_new_mount_responds_in_place_of_one_that_is_ending(serve: Serve, device: str) -> None:
    """The kernel reuses the device number of a mount whose process still responds."""
    serve(lambda _: {"is": "ending"})
    serve(lambda _: {"is": "new"})

    assert send(device, {}) == {"is": "new"}


def test_a_taken_socket_name_is_used_as_soon_as_it_is_free(
    serve: Serve, device: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control, "_RETRY_PAUSE_S", 0.01)
    with another_program(device):
        serve(lambda _: {"is": "next"})
    while (answer := send(device, {"ask": "status"})) is None:
        pass

    assert answer == {"is": "next"}
    assert not caplog.text


def test_without_a_socket_the_mount_only_logs_a_warning(
    serve: Serve, device: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control, "_RETRY_PAUSE_S", 0.01)
    with another_program(device):
        serve()
        while "invoicefs status cannot reach this mount" not in caplog.text:
            pass


def test_a_program_that_keeps_the_name_silently_is_not_waited_for(
    serve: Serve, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_YIELD_TIMEOUT_S", 0.01)
    monkeypatch.setattr(control, "IDLE_TIMEOUT_S", 1e6)
    with another_program(device) as silent:
        silent.listen(0)
        serve()
        serve()  # the queue of the other program is full


def another_program(device: str) -> closing[socket.socket]:
    """A socket that has the name of a mount's."""
    other = socket.socket(socket.AF_UNIX)
    other.bind(address_of(device))
    return closing(other)


# Peers

AS_NOBODY = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
channel = socket.socket(socket.AF_UNIX)
getattr(channel, sys.argv[1])("\\0" + sys.argv[2])
{then}
"""


def as_nobody(call: str, device: str, then: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", AS_NOBODY.format(then=then), call, address_of(device)[1:]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@as_root
def test_another_user_gets_no_response(serve: Serve) -> None:
    asking = 'channel.sendall(b"{}\\n"); print(channel.recv(1000))'
    with as_nobody("connect", serve(), asking) as other:
        received, _ = other.communicate(timeout=20)

    assert b"asked" not in received


@as_root
def test_responses_from_another_user_are_rejected(device: str) -> None:
    """The status command, run by root, once printed the bytes that another user had sent."""
    answering = """
channel.listen()
print("ready", flush=True)
peer, _ = channel.accept()
try:
    peer.sendall(b'{"mount_point": "\\\\u001b[2J"}\\n')
finally:
    sys.stdin.read()
"""
    with as_nobody("bind", device, answering) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"

        assert send(device, {}) is None
        other.communicate(timeout=20)


@as_root
def test_a_mount_of_another_user_that_is_ending_keeps_no_name_from_this_one(
    serve: Serve, device: str
) -> None:
    """`invoicefs list` once failed when a mount of another user was ending."""
    program = """
import os, sys
from invoicefs.mount.control_socket import ControlSocket
os.seteuid(65534)
ControlSocket(lambda request: request).open(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, device], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"

        assert send(serve(), {}) == {"asked": {}}
        other.communicate(timeout=20)


# Requests


def test_a_full_backlog_is_an_error_and_not_a_missing_mount(device: str) -> None:
    """Clients wait and none is accepted, which does not mean that there is no mount."""
    with closing(socket.socket(socket.AF_UNIX)) as silent, ExitStack() as waiting:
        silent.bind(address_of(device))
        silent.listen(0)
        for _ in range(2):
            client = waiting.enter_context(closing(socket.socket(socket.AF_UNIX)))
            client.setblocking(False)
            client.connect_ex(address_of(device))
        with pytest.raises(UserError, match="does not respond"):
            send(device, {})


def test_a_refusal_is_raised_with_its_message(serve: Serve) -> None:
    def refuse(_: Mapping[str, Any]) -> Mapping[str, Any]:
        raise Unreachable("nobody answers")

    device = serve(refuse)

    with pytest.raises(UserError, match=r"^nobody answers$"):
        send(device, {})


@pytest.mark.parametrize("line", [b"", b"\n", b"nonsense\n", b"5\n", b"[1]\n", b"\xff\xfe\n"])
def test_a_malformed_request_is_refused_and_the_next_is_answered(serve: Serve, line: bytes) -> None:
    device = serve()

    assert "error" in raw(device, line)
    assert send(device, {}) == {"asked": {}}


def raw(device: str, line: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(20)
        channel.connect(address_of(device))
        channel.sendall(line)
        channel.shutdown(socket.SHUT_WR)
        with channel.makefile("rb") as lines:
            answer = json.loads(lines.readline())
    assert isinstance(answer, dict)
    return answer


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_any_bytes_are_answered(serve: Serve, line: bytes) -> None:
    assert raw(serve(at=next(DEVICES)), line).keys() in ({"asked"}, {"error"})


def test_a_client_that_hangs_up_does_no_harm(serve: Serve) -> None:
    device = serve()
    for words in (b"", b'{"ask": "status"}\n', b"{"):
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(address_of(device))
            channel.sendall(words)

    assert send(device, {}) == {"asked": {}}


def test_a_slow_request_delays_no_other(serve: Serve) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
        if request.get("ask") == "refresh":
            asked.set()
            go_on.wait(20)
        return {"is": request.get("ask")}

    device = serve(answer)
    slow: list[Mapping[str, Any] | None] = []
    thread = threading.Thread(target=lambda: slow.append(send(device, {"ask": "refresh"})))
    thread.start()
    assert asked.wait(20)

    assert send(device, {"ask": "status"}) == {"is": "status"}

    go_on.set()
    thread.join()
    assert slow == [{"is": "refresh"}]
