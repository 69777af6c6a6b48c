"""Every failure to mount is one sentence on stderr, and nothing is left behind."""

import os
import signal
from pathlib import Path

import pytest

from invoicefs.sandbox import Behaviour, Endpoint, Fault, Sandbox, Sent, faults
from tests.mount.support.missing_prerequisites import (
    CLOSED_DEVICE,
    NO_FUSERMOUNT,
    NO_LIBFUSE,
    OTHER_FUSE,
    python_path_with,
)
from tests.mount.support.mounts import (
    Environment,
    Mounts,
    is_mounted,
    processes_of,
)
from tests.mount.support.programs import Argument, Ended, eventually, run, wait_for_exit
from tests.mount.support.tenants import NAMESPACE


def refuse(
    mounts: Mounts, *arguments: Argument, path: Path | None = None, env: Environment | None = None
) -> str:
    """Run a mount that must fail with status 1; return its one-sentence error."""
    path = path or mounts.new_path()
    ended = mounts.command("mount", *arguments, path, env=env)
    assert ended.code == 1, ended.err
    assert_nothing_left(ended, path)
    (sentence,) = ended.err.splitlines()
    assert sentence.startswith("invoicefs: ")
    return sentence


def assert_nothing_left(ended: Ended, path: Path) -> None:
    assert ended.out == b""
    assert "Traceback" not in ended.err
    assert not is_mounted(path)
    assert processes_of(path) == ()


# The token.


def test_a_wrong_token_is_an_error(mounts: Mounts) -> None:
    sentence = refuse(mounts, env={"INVOICEFS_TOKEN": "wrong-token"})
    assert "does not accept the token from the environment variable INVOICEFS_TOKEN" in sentence
    assert "The credential may be wrong, expired or revoked" in sentence
    assert "wrong-token" not in sentence


# What the server at the URL sends.


FIRST_RESPONSES: dict[str, tuple[Behaviour, str]] = {
    "404": (faults.status(404), "404"),
    "redirect to a login": (faults.redirect("http://127.0.0.2:9/login"), "redirects to another"),
    "not JSON": (faults.not_json(), "not JSON"),
    "cut": (faults.cut(Sent.NOTHING), "connection"),
}


@pytest.mark.parametrize("case", FIRST_RESPONSES)
def test_a_first_response_that_is_not_from_the_api_is_an_error(
    sandbox: Sandbox, mounts: Mounts, case: str
) -> None:
    behaviour, words = FIRST_RESPONSES[case]
    sandbox.inject(Fault(behaviour))
    assert words in refuse(mounts, "--max-wait", "0s", "--timeout", "1s")


@pytest.mark.parametrize("code", [500])
def test_a_chosen_namespace_is_shown_if_the_first_request_fails(
    sandbox: Sandbox, mounts: Mounts, code: int
) -> None:
    sandbox.inject(Fault(faults.status(code), Endpoint.NAMESPACES))
    mount = mounts.mount("--max-wait", "0s", "--namespace", NAMESPACE, words=str(code))
    assert run("ls", mount.path).good().lines == [NAMESPACE]
    assert len(run("ls", mount / NAMESPACE).good().lines) == 36


def test_a_namespace_unknown_to_the_tenant_costs_a_warning(mounts: Mounts) -> None:
    mount = mounts.mount("--namespace", "sytem", words="no namespace sytem")
    assert "No such file" in run("ls", mount / "sytem").err
    assert "No such file" in run("ls", mount / NAMESPACE).err


@pytest.mark.promise("A line in the log names the request that failed, with its request id.")
def test_a_log_line_names_the_failed_request(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount("--max-wait", "0s")
    busy = faults.reply(503, b'{"message": "overloaded"}', {"X-Request-Id": "r-4711"})
    sandbox.inject(Fault(busy, Endpoint.PDF))
    run("cat", mount / NAMESPACE / "invoice-acme-2026-08.pdf")

    (line,) = mount.warnings
    assert "overloaded" in line
    path = f"/api/web/namespaces/{NAMESPACE}/usage/invoice_pdf"
    assert line.endswith(f"[GET {path}: 503, request id r-4711]")


# The mount point.


def test_a_mount_point_inside_a_mount_is_refused(mounts: Mounts) -> None:
    mount = mounts.mount()
    assert refuse(mounts, path=mount / NAMESPACE)
    assert mount.is_mounted


# The machine: a module that Python runs at startup hides a prerequisite.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (NO_LIBFUSE, ("libfuse 2 is missing", "apt install libfuse2")),
        (NO_FUSERMOUNT, ("fusermount is missing", "apt install fuse3")),
        (CLOSED_DEVICE, ("may not use /dev/fuse",)),
    ],
    ids=["no libfuse", "no fusermount", "closed device"],
)
def test_a_machine_that_cannot_mount_is_an_error_that_names_the_fix(
    sandbox: Sandbox,
    mounts: Mounts,
    tmp_path: Path,
    changes: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    sentence = refuse(mounts, env={"PYTHONPATH": python_path_with(tmp_path, *changes)})
    for word in words:
        assert word in sentence
    assert sandbox.calls == ()


def test_a_module_that_is_not_fusepy_is_an_error(mounts: Mounts, tmp_path: Path) -> None:
    sentence = refuse(mounts, env={"PYTHONPATH": python_path_with(tmp_path, *OTHER_FUSE)})
    assert "does not belong to fusepy" in sentence
    assert "apt install python3-fusepy" in sentence


@pytest.mark.parametrize("library", ["/etc/passwd"])
def test_a_wrong_fuse_library_path_is_an_error(mounts: Mounts, library: str) -> None:
    assert "libfuse 2" in refuse(mounts, env={"FUSE_LIBRARY_PATH": library})


def test_allow_other_is_refused_unless_fuse_conf_allows_it(unprivileged_mounts: Mounts) -> None:
    try:
        lines = Path("/etc/fuse.conf").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    if "user_allow_other" in (line.strip() for line in lines):
        pytest.skip("this machine allows it")
    assert "user_allow_other" in refuse(unprivileged_mounts, "--allow-other", "--fetch=on-stat")


# Signals during the first request.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_first_request_leaves_nothing_mounted(
    sandbox: Sandbox, mounts: Mounts, number: signal.Signals
) -> None:
    sandbox.inject(Fault(faults.stall()))
    path = mounts.new_path()
    with mounts.started("mount", path) as command:
        eventually(lambda: sandbox.calls)
        pids = processes_of(path)
        assert len(pids) == 3  # the command, the mount, and its stat helper
        os.kill(command.process.pid, number)
        ended = command.end()
        assert ended.code != 0
        assert "Traceback" not in ended.err
        assert all(wait_for_exit(pid, timeout_s=10) for pid in pids)
    assert not is_mounted(path)


def test_ctrl_c_in_the_foreground_leaves_nothing_mounted(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.inject(Fault(faults.stall()))
    path = mounts.new_path()
    with mounts.started("mount", "--foreground", path) as command:
        eventually(lambda: sandbox.calls)
        os.kill(command.process.pid, signal.SIGINT)
        ended = command.end()
    assert ended.code != 0
    assert "Traceback" not in ended.err
    assert not is_mounted(path)
