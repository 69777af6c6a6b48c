"""What a service manager is told, see sd_notify(3), and that nothing comes of it if it is away."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from invoicefs.mount.sd_notify import ServiceManager

VARIABLE = "NOTIFY_SOCKET"
HANG_S = 10.0  # for what happens at once where the code is right


@pytest.fixture
def channel() -> Iterator[socket.socket]:
    """Where a service manager listens, once a test has bound it."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as channel:
        channel.settimeout(HANG_S)
        yield channel


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, channel: socket.socket, tmp_path: Path) -> str:
    """What the variable says of a service manager that listens."""
    if request.param == "path":
        channel.bind(str(tmp_path / "notify"))
        return str(tmp_path / "notify")
    channel.bind("")  # the kernel finds a name, see unix(7)
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


def test_a_service_manager_is_told_that_the_mount_is_ready_and_that_it_stops(
    channel: socket.socket,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(VARIABLE, address)
    manager = ServiceManager.of_environment()

    manager.notify_ready()
    assert channel.recv(100) == b"READY=1"
    assert is_silent(channel)
    channel.settimeout(HANG_S)
    manager.notify_stopping()
    assert channel.recv(100) == b"STOPPING=1"
    assert is_silent(channel)
    assert not caplog.records


def test_the_variable_is_taken_out_of_the_environment_before_anything_is_told(
    channel: socket.socket, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, address)

    ServiceManager.of_environment()

    assert VARIABLE not in os.environ
    assert is_silent(channel)


def test_a_name_that_is_no_text_is_reached(
    channel: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = os.fsencode(tmp_path) + b"/\xff"
    channel.bind(path)
    monkeypatch.setenv(VARIABLE, os.fsdecode(path))

    ServiceManager.of_environment().notify_ready()

    assert channel.recv(100) == b"READY=1"


@pytest.mark.parametrize("variables", [{}, {VARIABLE: ""}])
def test_without_a_service_manager_nothing_happens(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(socket, "socket", None)
    manager = ServiceManager.of_environment()

    manager.notify_ready()
    manager.notify_stopping()

    assert not caplog.records
    assert VARIABLE not in os.environ


@pytest.mark.parametrize(
    "name",
    [
        "missing",
        "missing/notify",
        "a-file",
        "a-file/notify",
        "a-stream",
        "",
        "x" * 200,
        "@",
        "@gone",
    ],
)
def test_a_service_manager_that_cannot_be_told_costs_a_warning(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "a-file").touch()
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as stream:
        stream.bind(str(tmp_path / "a-stream"))
        stream.listen()
        monkeypatch.setenv(VARIABLE, name if name.startswith("@") else str(tmp_path / name))
        manager = ServiceManager.of_environment()
        manager.notify_ready()
        manager.notify_stopping()

    ready, stopping = warnings(caplog)
    assert "READY=1" in ready
    assert "None" not in ready
    assert "STOPPING=1" in stopping
    assert len(caplog.records) == 2


def test_a_service_manager_that_went_away_and_came_back_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = str(tmp_path / "notify")
    monkeypatch.setenv(VARIABLE, path)
    manager = ServiceManager.of_environment()
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
