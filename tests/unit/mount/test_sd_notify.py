"""Notifications of the service manager, see sd_notify(3), and failures to deliver them."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from invoicefs.mount.sd_notify import ServiceManager

VARIABLE = "NOTIFY_SOCKET"
HANG_S = 10.0  # a correct program answers at once


@pytest.fixture
def channel() -> Iterator[socket.socket]:
    """Return the socket of a service manager; a test binds it."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as channel:
        channel.settimeout(HANG_S)
        yield channel


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, channel: socket.socket, tmp_path: Path) -> str:
    """Return the value of the variable for a service manager that listens."""
    if request.param == "path":
        channel.bind(str(tmp_path / "notify"))
        return str(tmp_path / "notify")
    channel.bind("")  # the kernel chooses a name, see unix(7)
    name: bytes = channel.getsockname()
    return f"@{name[1:].decode()}"


def is_silent(channel: socket.socket) -> bool:
    channel.setblocking(False)
    try:
        channel.recv(100)
    except BlockingIOError:
        return True
    return False


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_the_service_manager_is_notified_of_ready_and_stopping(
    channel: socket.socket,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(VARIABLE, address)
    manager = ServiceManager.from_environment()

    manager.notify_ready()
    assert channel.recv(100) == b"READY=1"
    assert is_silent(channel)
    channel.settimeout(HANG_S)
    manager.notify_stopping()
    assert channel.recv(100) == b"STOPPING=1"
    assert is_silent(channel)
    assert not caplog.records


def test_the_variable_is_removed_before_the_first_notification(
    channel: socket.socket, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, address)

    ServiceManager.from_environment()

    assert VARIABLE not in os.environ
    assert is_silent(channel)


def test_a_socket_path_that_is_not_utf8_works(
    channel: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = os.fsencode(tmp_path) + b"/\xff"
    channel.bind(path)
    monkeypatch.setenv(VARIABLE, os.fsdecode(path))

    ServiceManager.from_environment().notify_ready()

    assert channel.recv(100) == b"READY=1"


@pytest.mark.parametrize("variables", [{}, {VARIABLE: ""}])
def test_without_a_service_manager_nothing_happens(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(socket, "socket", None)
    manager = ServiceManager.from_environment()

    manager.notify_ready()
    manager.notify_stopping()

    assert not caplog.records
    assert VARIABLE not in os.environ


@pytest.mark.parametrize(
    "name",
    [
        "missing",
        "a-stream",
        "x" * 200,
        "@",
    ],
)
def test_a_failed_notification_is_logged_as_a_warning(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "a-file").touch()
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as stream:
        stream.bind(str(tmp_path / "a-stream"))
        stream.listen()
        monkeypatch.setenv(VARIABLE, name if name.startswith("@") else str(tmp_path / name))
        manager = ServiceManager.from_environment()
        manager.notify_ready()
        manager.notify_stopping()

    ready, stopping = warnings(caplog)
    assert "READY=1" in ready
    assert "None" not in ready
    assert "STOPPING=1" in stopping
    assert len(caplog.records) == 2


def test_a_restarted_service_manager_is_notified(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = str(tmp_path / "notify")
    monkeypatch.setenv(VARIABLE, path)
    manager = ServiceManager.from_environment()
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as first:
        first.bind(path)

    manager.notify_ready()
    assert len(warnings(caplog)) == 1

    os.unlink(path)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as second:
        second.bind(path)
        second.settimeout(HANG_S)
        manager.notify_stopping()
        assert second.recv(100) == b"STOPPING=1"
