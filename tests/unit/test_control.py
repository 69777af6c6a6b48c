"""The private socket of a mount: who finds it, what it answers, and that nothing harms it."""

import json
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invoicefs.control import ControlSocket, ask
from invoicefs.errors import Unreachable, UserError

MOUNT = "/home/alice/invoices"

Serve = Callable[..., ControlSocket]


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    return folder


def echo(question: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"asked": dict(question)}


@pytest.fixture
def serve(store: Path) -> Iterator[Serve]:
    with ExitStack() as stack:

        def serve(
            answer: Callable[[Mapping[str, Any]], Mapping[str, Any]] = echo, mount: str = MOUNT
        ) -> ControlSocket:
            return stack.enter_context(closing(ControlSocket(mount, store, answer)))

        yield serve


def sockets_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_socket()]


def test_a_question_is_answered(serve: Serve, store: Path) -> None:
    serve()

    assert ask(MOUNT, [store], {"ask": "status"}) == {"asked": {"ask": "status"}}


def test_each_mount_answers_for_itself(serve: Serve, store: Path) -> None:
    serve(lambda _: {"is": "one"}, "/one")
    serve(lambda _: {"is": "two"}, "/two")

    assert ask("/one", [store], {}) == {"is": "one"}
    assert ask("/two", [store], {}) == {"is": "two"}


def test_the_socket_is_where_the_system_wants_it_and_for_its_user_alone(
    serve: Serve, runtime: Path, store: Path
) -> None:
    serve()

    (path,) = sockets_in(runtime)
    assert stat.filemode(path.stat().st_mode) == "srw-------"
    assert stat.filemode(path.parent.stat().st_mode) == "drwx------"
    assert not sockets_in(store)


@pytest.mark.parametrize("why", ["no variable", "no folder", "relative", "open to others"])
def test_without_such_a_place_it_is_in_the_folder_of_the_store(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, runtime: Path, store: Path, why: str
) -> None:
    if why == "no variable":
        monkeypatch.setattr("os.geteuid", lambda: 99_999)
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        monkeypatch.setattr("invoicefs.control.own_folder", lambda _: None)
    elif why == "no folder":
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / "missing"))
    elif why == "relative":
        monkeypatch.setenv("XDG_RUNTIME_DIR", "runtime")
    else:
        (runtime / "invoicefs").mkdir()
        (runtime / "invoicefs").chmod(0o777)
    serve()

    assert sockets_in(store)
    assert ask(MOUNT, [store], {}) == {"asked": {}}


def test_a_path_may_be_longer_than_that_of_any_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    store = tmp_path / ("x" * 120) / ("y" * 120)
    with closing(ControlSocket(MOUNT, store, echo)):
        assert sockets_in(store)
        assert ask(MOUNT, [store], {}) == {"asked": {}}


def test_closing_takes_the_socket_away(runtime: Path, store: Path) -> None:
    ControlSocket(MOUNT, store, echo).close()

    assert not sockets_in(runtime)
    assert ask(MOUNT, [store], {}) is None


def test_a_mount_that_ends_late_leaves_the_socket_of_the_next_one(
    serve: Serve, store: Path
) -> None:
    late = ControlSocket(MOUNT, store, lambda _: {"is": "late"})
    serve(lambda _: {"is": "next"})

    late.close()

    assert ask(MOUNT, [store], {}) == {"is": "next"}


def test_a_dead_socket_does_not_hide_a_live_one_elsewhere(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, runtime: Path, store: Path
) -> None:
    serve()
    (path,) = sockets_in(runtime)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / "missing"))
    serve(lambda _: {"is": "alive"})
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    path.unlink()
    leave_dead_socket(path)

    assert ask(MOUNT, [store], {}) == {"is": "alive"}


def leave_dead_socket(path: Path) -> None:
    """What is there after a mount was killed."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def test_what_a_killed_mount_left_is_replaced(serve: Serve, runtime: Path, store: Path) -> None:
    serve()
    (path,) = sockets_in(runtime)
    copy = path.with_suffix(".dead")
    path.rename(copy)
    leave_dead_socket(path)
    assert ask(MOUNT, [store], {}) is None

    serve(lambda _: {"is": "new"})

    assert ask(MOUNT, [store], {}) == {"is": "new"}


def test_a_mount_without_any_place_does_without_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    (tmp_path / "file").touch()

    ControlSocket(MOUNT, tmp_path / "file" / "store", echo).close()

    assert "invoicefs status" in caplog.text


# Questions


def test_a_mount_that_nobody_gets_through_to_is_told_as_such(
    runtime: Path, serve: Serve, store: Path
) -> None:
    """It is not taken for one that is gone: many have asked, and none was answered."""
    serve()
    (path,) = sockets_in(runtime)
    path.unlink()
    with closing(socket.socket(socket.AF_UNIX)) as silent, ExitStack() as waiting:
        silent.bind(str(path))
        silent.listen(0)
        for _ in range(2):
            client = waiting.enter_context(closing(socket.socket(socket.AF_UNIX)))
            client.setblocking(False)
            client.connect_ex(str(path))
        with pytest.raises(UserError, match="does not answer"):
            ask(MOUNT, [store], {})


def test_a_refusal_comes_with_its_words(serve: Serve, store: Path) -> None:
    def refuse(_: Mapping[str, Any]) -> Mapping[str, Any]:
        raise Unreachable("nobody answers")

    serve(refuse)

    with pytest.raises(UserError, match=r"^nobody answers$"):
        ask(MOUNT, [store], {})


@pytest.mark.parametrize("line", [b"", b"\n", b"nonsense\n", b"5\n", b"[1]\n", b"\xff\xfe\n"])
def test_what_is_no_question_is_refused_and_the_mount_goes_on(
    serve: Serve, runtime: Path, store: Path, line: bytes
) -> None:
    serve()

    assert "error" in raw(runtime, line)
    assert ask(MOUNT, [store], {}) == {"asked": {}}


def raw(runtime: Path, line: bytes) -> dict[str, Any]:
    (path,) = sockets_in(runtime)
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(20)
        channel.connect(str(path))
        channel.sendall(line)
        channel.shutdown(socket.SHUT_WR)
        with channel.makefile("rb") as lines:
            answer = json.loads(lines.readline())
    assert isinstance(answer, dict)
    return answer


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_any_bytes_are_answered(serve: Serve, runtime: Path, line: bytes) -> None:
    for each in sockets_in(runtime):
        each.unlink()
    serve()

    assert raw(runtime, line).keys() in ({"asked"}, {"error"})


def test_whoever_hangs_up_does_no_harm(serve: Serve, runtime: Path, store: Path) -> None:
    serve()
    (path,) = sockets_in(runtime)
    for words in (b"", b'{"ask": "status"}\n', b"{"):
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(str(path))
            channel.sendall(words)

    assert ask(MOUNT, [store], {}) == {"asked": {}}


def test_one_slow_answer_holds_up_no_other(serve: Serve, store: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer(question: Mapping[str, Any]) -> Mapping[str, Any]:
        if question.get("ask") == "refresh":
            asked.set()
            go_on.wait(20)
        return {"is": question.get("ask")}

    serve(answer)
    slow: list[Mapping[str, Any] | None] = []
    thread = threading.Thread(target=lambda: slow.append(ask(MOUNT, [store], {"ask": "refresh"})))
    thread.start()
    assert asked.wait(20)

    assert ask(MOUNT, [store], {"ask": "status"}) == {"is": "status"}

    go_on.set()
    thread.join()
    assert slow == [{"is": "refresh"}]
