"""Whatever is wrong is said in one sentence, and nothing is left behind."""

import os
import signal
from pathlib import Path

import pytest

from invoicefs.sandbox import Behaviour, Endpoint, Fault, Sandbox, Sent, faults
from tests.mount.support.mounts import (
    NEEDS_ROOT,
    Environment,
    Mounts,
    is_mounted,
    permissions,
    processes_of,
)
from tests.mount.support.poorer_machines import (
    CLOSED_DEVICE,
    NO_DEVICE,
    NO_FUSERMOUNT,
    NO_LIBFUSE,
    ONLY_LIBFUSE3,
    python_path_with,
)
from tests.mount.support.programs import Argument, Ended, eventually, run, wait_for_exit
from tests.mount.support.tenants import NAMESPACE


def refuse(
    mounts: Mounts, *arguments: Argument, path: Path | None = None, env: Environment | None = None
) -> str:
    """Let a mount fail for a reason that is not its usage; returns the sentence that says so."""
    path = path or mounts.new_path()
    ended = mounts.command("mount", *arguments, path, env=env)
    assert ended.code == 1, ended.err
    assert_nothing_left(ended, path)
    (sentence,) = ended.err.splitlines()
    assert sentence.startswith("invoicefs: ")
    return sentence


def refuse_usage(mounts: Mounts, *arguments: Argument, env: Environment | None = None) -> str:
    """Let a command fail for its usage; returns the sentence that says so."""
    path = mounts.new_path()
    ended = mounts.command("mount", *arguments, path, env=env)
    assert ended.code == 2, ended.err
    assert_nothing_left(ended, path)
    sentence = ended.err.splitlines()[-1]
    assert sentence.startswith(("invoicefs: ", "Error: "))
    return sentence


def assert_nothing_left(ended: Ended, path: Path) -> None:
    assert ended.out == b""
    assert "Traceback" not in ended.err
    assert not is_mounted(path)
    assert processes_of(path) == ()


# The token.


def test_a_wrong_token(mounts: Mounts) -> None:
    sentence = refuse(mounts, env={"INVOICEFS_TOKEN": "wrong-token"})
    assert "does not accept the token from the environment variable INVOICEFS_TOKEN" in sentence
    assert "It may be wrong, expired or revoked" in sentence
    assert "wrong-token" not in sentence


def test_a_wrong_token_although_the_store_knows_the_tenant(mounts: Mounts) -> None:
    mounts.umount(mounts.mount())
    sentence = refuse(mounts, env={"INVOICEFS_TOKEN": "wrong-token"})
    assert "does not accept the token" in sentence
    assert "wrong, expired or revoked" in sentence


@pytest.mark.parametrize("token", [None, ""])
def test_a_missing_token(mounts: Mounts, token: str | None) -> None:
    sentence = refuse(mounts, env={"INVOICEFS_TOKEN": token})
    assert "no credentials" in sentence
    assert "--token-file" in sentence


@pytest.mark.parametrize("token", [" ", "two words", "\u00e4", "a\nb", "a\tb", "\x01"])
def test_a_token_that_no_header_can_carry(mounts: Mounts, token: str) -> None:
    assert "INVOICEFS_TOKEN" in refuse(mounts, env={"INVOICEFS_TOKEN": token})


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\n \n", b"\xff\xfe", b"one\ntwo\n", b"\0"],
    ids=["missing", "empty", "blank", "not text", "two lines", "NUL"],
)
def test_a_token_file_without_a_token(
    mounts: Mounts, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    assert str(file) in refuse(mounts, "--token-file", file)


def test_a_token_file_that_is_a_folder(mounts: Mounts, tmp_path: Path) -> None:
    assert str(tmp_path) in refuse(mounts, "--token-file", tmp_path)


# The URL.


def test_a_url_where_nobody_listens(mounts: Mounts, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    sentence = refuse(mounts, "--max-wait", "0s", env={"INVOICEFS_URL": url})
    assert "cannot be used" in sentence
    assert "Connection refused" in sentence


def test_a_url_whose_server_speaks_no_tls(sandbox: Sandbox, mounts: Mounts) -> None:
    sentence = refuse(mounts, env={"INVOICEFS_URL": sandbox.url.replace("http:", "https:")})
    assert "cannot be trusted" in sentence


@pytest.mark.parametrize(
    "url",
    [
        "console.ves.volterra.io",
        "https://console.ves.volterra.io",
        "https://console.ves.volterra.io/web/workspaces",
        "acme",
    ],
)
def test_a_url_without_a_tenant(mounts: Mounts, url: str) -> None:
    assert "names no tenant" in refuse_usage(mounts, "--url", url)


@pytest.mark.parametrize(
    "url",
    ["", " ", "https://", "ftp://127.0.0.1", "http://[::1", "http://127.0.0.1:port", "file:///"],
)
def test_something_that_is_no_url(mounts: Mounts, url: str) -> None:
    assert refuse_usage(mounts, "--url", url)


def test_a_url_that_would_show_the_token_to_everybody(mounts: Mounts) -> None:
    assert "unencrypted" in refuse_usage(mounts, "--url", "http://acme.example.com")


def test_a_url_with_a_password_in_it(mounts: Mounts) -> None:
    sentence = refuse_usage(mounts, "--url", "https://user:secret@acme.example.com")
    assert "password" in sentence
    assert "secret" not in sentence


def test_no_url(mounts: Mounts) -> None:
    assert "--url" in refuse_usage(mounts, env={"INVOICEFS_URL": None})


# What answers at the URL.


FIRST_ANSWERS: dict[str, tuple[Behaviour, str]] = {
    "404": (faults.status(404), "404"),
    "404 for people": (faults.html(404), "404"),
    "redirect to a login": (faults.redirect("http://127.0.0.2:9/login"), "redirects to another"),
    "redirect in a circle": (faults.redirect(), "redirects in a circle"),
    "a page for people": (faults.html(), "not JSON"),
    "not JSON": (faults.not_json(), "not JSON"),
    "nothing": (faults.reply(200, b""), "not JSON"),
    "a list": (faults.json_body([]), "not a JSON object"),
    "a string": (faults.json_body("namespaces"), "not a JSON object"),
    "items that are a number": (faults.json_body({"items": 5}), "no list of items"),
    "an error sent as good": (faults.json_body({"message": "not found"}), "no list of items"),
    "reset": (faults.reset(Sent.HALF_BODY), "connection"),
    "cut": (faults.cut(Sent.NOTHING), "connection"),
    "silent": (faults.stall(), "no answer"),
    "silent in the body": (faults.stall(Sent.HALF_BODY), "no answer"),
}


@pytest.mark.parametrize("case", FIRST_ANSWERS)
def test_a_first_answer_that_is_not_that_of_the_api(
    sandbox: Sandbox, mounts: Mounts, case: str
) -> None:
    behaviour, words = FIRST_ANSWERS[case]
    sandbox.inject(Fault(behaviour))
    assert words in refuse(mounts, "--max-wait", "0s", "--timeout", "1s")


def test_the_token_follows_no_redirect_to_another_host(sandbox: Sandbox, mounts: Mounts) -> None:
    with Sandbox() as other:
        sandbox.inject(Fault(faults.redirect(f"{other.url}/api/web/namespaces")))
        refuse(mounts)
        assert other.calls == ()


@pytest.mark.parametrize("code", [403, 429, 500, 502, 503, 504])
def test_a_first_call_that_fails_is_a_warning(sandbox: Sandbox, mounts: Mounts, code: int) -> None:
    sandbox.inject(Fault(faults.status(code), Endpoint.NAMESPACES))
    mount = mounts.mount("--max-wait", "0s", words=str(code))
    ended = run("ls", mount.path)
    assert (ended.code, ended.lines) == (2, [])  # an error, not an empty folder


@pytest.mark.parametrize("code", [403, 429, 500, 503])
def test_a_chosen_namespace_is_shown_although_the_first_call_fails(
    sandbox: Sandbox, mounts: Mounts, code: int
) -> None:
    sandbox.inject(Fault(faults.status(code), Endpoint.NAMESPACES))
    mount = mounts.mount("--max-wait", "0s", "--namespace", NAMESPACE, words=str(code))
    assert run("ls", mount.path).good().lines == [NAMESPACE]
    assert len(run("ls", mount / NAMESPACE).good().lines) == 36


@pytest.mark.parametrize(
    "behaviour",
    [faults.reset(), faults.stall(), faults.html(), faults.status(500)],
    ids=["reset", "silent", "a page for people", "500"],
)
def test_a_known_tenant_is_mounted_with_a_warning_while_the_api_is_away(
    sandbox: Sandbox, mounts: Mounts, behaviour: Behaviour
) -> None:
    mounts.umount(mounts.mount())
    sandbox.inject(Fault(behaviour, Endpoint.NAMESPACES))
    mount = mounts.mount(
        "--max-wait", "0s", "--timeout", "1s", words="cached listings and invoices are shown"
    )
    assert len(run("ls", mount.path).good().lines) == 4


def test_a_namespace_without_permission(mounts: Mounts) -> None:
    mount = mounts.mount("--namespace", "legal")
    assert run("ls", mount.path).good().lines == ["legal"]
    assert "Permission denied" in run("ls", mount / "legal").err


def test_a_namespace_that_the_tenant_does_not_have(mounts: Mounts) -> None:
    mount = mounts.mount("--namespace", "sytem", words="no namespace sytem")
    assert "No such file" in run("ls", mount / "sytem").err
    assert "No such file" in run("ls", mount / NAMESPACE).err


def test_an_unusable_answer_is_one_line_in_the_log(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount("--list-ttl", "0s", "--max-wait", "0s")
    run("ls", mount / NAMESPACE).good()
    sandbox.inject(Fault(faults.html(), Endpoint.PDF))
    sandbox.inject(Fault(faults.html(), Endpoint.INVOICES, namespace=NAMESPACE))
    for _ in range(3):
        run("cat", mount / NAMESPACE / "invoice-acme-2026-08.pdf")
    lines = mount.log.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert len([line for line in lines if "invoice-acme-2026-08.pdf" in line]) == 1


@pytest.mark.promise("A line in the log names the request that failed, with its request id.")
def test_a_line_in_the_log_names_the_request_that_failed(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount("--max-wait", "0s")
    busy = faults.reply(503, b'{"message": "overloaded"}', {"X-Request-Id": "r-4711"})
    sandbox.inject(Fault(busy, Endpoint.PDF))
    run("cat", mount / NAMESPACE / "invoice-acme-2026-08.pdf")

    (line,) = mount.warnings
    assert "overloaded" in line
    path = f"/api/web/namespaces/{NAMESPACE}/usage/invoice_pdf"
    assert line.endswith(f"[GET {path}: 503, request id r-4711]")


def test_a_line_names_the_request_also_where_its_answer_was_too_large(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    mount = mounts.mount("--max-pdf-size", "1MiB")
    sandbox.inject(Fault(faults.large(3), Endpoint.PDF))
    run("cat", mount / NAMESPACE / "invoice-acme-2026-08.pdf")

    (line,) = mount.warnings
    assert line.endswith(f"(EFBIG) [GET /api/web/namespaces/{NAMESPACE}/usage/invoice_pdf: 200]")


# The mount point.


def test_a_mount_point_that_is_missing(mounts: Mounts, tmp_path: Path) -> None:
    assert "does not exist: mkdir" in refuse(mounts, path=tmp_path / "nosuch")


def test_a_mount_point_that_is_a_file(mounts: Mounts, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is not a folder" in refuse(mounts, path=tmp_path / "file")


def test_a_mount_point_that_is_below_a_file(mounts: Mounts, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is not a folder" in refuse(mounts, path=tmp_path / "file" / "folder")


def test_a_mount_point_that_leads_nowhere(mounts: Mounts, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nosuch")
    assert "does not exist" in refuse(mounts, path=tmp_path / "link")


def test_a_mount_point_that_leads_in_a_circle(mounts: Mounts, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    assert "cannot be used" in refuse(mounts, path=tmp_path / "link")


@pytest.mark.parametrize("name", ["file", ".hidden"])
def test_a_mount_point_that_is_not_empty(mounts: Mounts, name: str) -> None:
    path = mounts.new_path()
    (path / name).touch()
    assert "is not empty" in refuse(mounts, path=path)
    assert (path / name).exists()


def test_a_mount_point_with_a_name_that_is_too_long(mounts: Mounts, tmp_path: Path) -> None:
    assert "cannot be used" in refuse(mounts, path=tmp_path / ("x" * 300))


def test_a_mount_point_inside_a_mount(mounts: Mounts) -> None:
    mount = mounts.mount()
    assert refuse(mounts, path=mount / NAMESPACE)
    assert mount.is_mounted


def test_a_mount_point_that_is_not_yours(unprivileged_mounts: Mounts) -> None:
    mounts = unprivileged_mounts
    path = mounts.new_path()
    mounts.run("chmod", "500", path).good()
    assert "not yours" in refuse(mounts, path=path)


def test_a_mount_point_that_you_may_not_enter(unprivileged_mounts: Mounts) -> None:
    mounts = unprivileged_mounts
    path = mounts.new_path("closed/inner")
    mounts.run("chmod", "000", path.parent).good()
    try:
        assert refuse(mounts, path=path)
    finally:
        mounts.run("chmod", "700", path.parent).good()


def test_no_mount_point(mounts: Mounts) -> None:
    ended = mounts.command("mount")
    assert ended.code == 2
    assert "MOUNTPOINT" in ended.err


# The store.


@pytest.mark.parametrize("where", ["below a file", "a file", "no such filesystem"])
def test_a_cache_folder_that_cannot_be_made(mounts: Mounts, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    folders = {
        "below a file": tmp_path / "file" / "cache",
        "a file": tmp_path / "file",
        "no such filesystem": Path("/proc/invoicefs"),
    }
    sentence = refuse(mounts, "--cache-dir", folders[where])
    assert str(folders[where]) in sentence
    assert "--cache-dir" in sentence


def test_a_cache_folder_that_cannot_be_written(unprivileged_mounts: Mounts) -> None:
    mounts = unprivileged_mounts
    mounts.run("mkdir", "-m", "500", mounts.cache).good()
    assert "Permission denied" in refuse(mounts)


def test_a_store_that_cannot_be_written(unprivileged_mounts: Mounts) -> None:
    """Its owner can make it writable again, so that is what happens."""
    mounts = unprivileged_mounts
    mounts.umount(mounts.mount())
    (store,) = (mounts.cache / "invoicefs").iterdir()
    mounts.run("chmod", "500", store).good()
    mounts.umount(mounts.mount())
    assert permissions(store)["."] == "drwx------"


@NEEDS_ROOT
def test_a_store_that_belongs_to_somebody_else(mounts: Mounts) -> None:
    mounts.umount(mounts.mount())
    (store,) = (mounts.cache / "invoicefs").iterdir()
    os.chown(store, 12345, 12345)
    assert "belongs to another user" in refuse(mounts)


def test_a_store_below_a_folder_that_others_can_write_to(mounts: Mounts) -> None:
    """Somebody put another store in its place, and 9 of 10 invoices were forged from then on."""
    shared = mounts.cache / "shared"
    store = shared / "mine" / "store"
    store.mkdir(0o700, parents=True)
    shared.chmod(0o777)
    assert f"others can write to {shared}" in refuse(mounts, "--cache-dir", store)
    assert not list(store.iterdir())


def test_a_store_that_is_a_symlink(mounts: Mounts, tmp_path: Path) -> None:
    mounts.umount(mounts.mount())
    (store,) = (mounts.cache / "invoicefs").iterdir()
    store.rename(tmp_path / "elsewhere")
    store.symlink_to(tmp_path / "elsewhere")
    assert str(store) in refuse(mounts)


def test_a_log_file_that_cannot_be_written(mounts: Mounts, tmp_path: Path) -> None:
    assert "cannot be written" in refuse(mounts, "--log-file", tmp_path)
    assert "cannot be written" in refuse(mounts, "--log-file", tmp_path / "nosuch" / "log")


# Options.


@pytest.mark.parametrize(
    "arguments",
    [
        ("--cache-size", "large"),
        ("--cache-size", "1TiBB"),
        ("--cache-size", "-1"),
        ("--cache-size", "0"),
        ("--max-pdf-size", "0"),
        ("--max-pdf-size", ""),
        ("--timeout", "soon"),
        ("--timeout", "0s"),
        ("--timeout", "-1s"),
        ("--timeout", "nan"),
        ("--timeout", "inf"),
        ("--timeout", "3s", "--max-wait", "4s"),
        ("--max-wait", "1m"),
        ("--max-wait", "5 minutes"),
        ("--list-ttl", "1d"),
        ("--active-ttl", "1,5s"),
        ("--fetch", ""),
        ("--fetch", "on-read"),
        ("--parallel", "0"),
        ("--parallel", "many"),
        ("--parallel", "1.5"),
        ("--umask", "999"),
        ("--umask", "7777"),
        ("--umask", "-22"),
        ("--uid", "nobody"),
        ("--uid", "-1"),
        ("--gid", "x"),
        ("--namespace", ""),
        ("--namespace", "Not A Label"),
        ("--namespace", "../system"),
        ("--status", ""),
        ("--status", "not paid"),
        ("--nosuch",),
        ("--token", "secret"),
        ("--url",),
        ("/tmp", "/var"),  # noqa: S108 # one mount point too many
    ],
    ids=" ".join,
)
def test_an_option_that_cannot_be_meant(mounts: Mounts, arguments: tuple[str, ...]) -> None:
    assert refuse_usage(mounts, *arguments)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("INVOICEFS_TIMEOUT", "soon"),
        ("INVOICEFS_PARALLEL", "0"),
        ("INVOICEFS_CACHE_SIZE", "large"),
        ("INVOICEFS_URL", "console.ves.volterra.io"),
        ("INVOICEFS_STATUS", "??"),
        ("INVOICEFS_UMASK", "9"),
        ("INVOICEFS_FOREGROUND", "perhaps"),
    ],
)
def test_a_variable_that_cannot_be_meant(mounts: Mounts, variable: str, value: str) -> None:
    assert refuse_usage(mounts, env={variable: value})


@pytest.mark.parametrize(
    "arguments", [("nosuch",), ("mount", "--nosuch"), ("umount",), ("umount", "a", "b")]
)
def test_a_command_that_cannot_be_meant(mounts: Mounts, arguments: tuple[str, ...]) -> None:
    ended = mounts.command(*arguments)
    assert ended.code == 2
    assert "Traceback" not in ended.err


# The machine. It is made poorer by a module that Python runs at its start.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (NO_LIBFUSE, ("libfuse 2 is missing", "apt install libfuse2")),
        (ONLY_LIBFUSE3, ("libfuse 3", "apt install libfuse2")),
        (NO_FUSERMOUNT, ("fusermount is missing", "apt install fuse3")),
        (NO_DEVICE, ("/dev/fuse is missing",)),
        (CLOSED_DEVICE, ("may not use /dev/fuse",)),
    ],
    ids=["no libfuse", "only libfuse 3", "no fusermount", "no device", "closed device"],
)
def test_a_machine_that_cannot_mount(
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


def test_a_machine_made_no_poorer_can_mount(mounts: Mounts, tmp_path: Path) -> None:
    path = mounts.new_path()
    mounts.command("mount", path, env={"PYTHONPATH": python_path_with(tmp_path)}).good()
    assert is_mounted(path)


@pytest.mark.parametrize("library", ["libfuse3.so.3", "/usr/lib/libfuse3.so"])
def test_libfuse_3_given_for_libfuse_2(mounts: Mounts, library: str) -> None:
    assert "libfuse 3" in refuse(mounts, env={"FUSE_LIBRARY_PATH": library})


@pytest.mark.parametrize("library", ["/nonexistent/libfuse.so.2", "/etc/passwd", "libm.so.6"])
def test_something_else_given_for_libfuse_2(mounts: Mounts, library: str) -> None:
    assert "libfuse 2" in refuse(mounts, env={"FUSE_LIBRARY_PATH": library})


def test_allow_other_where_it_is_not_allowed(unprivileged_mounts: Mounts) -> None:
    try:
        lines = Path("/etc/fuse.conf").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    if "user_allow_other" in (line.strip() for line in lines):
        pytest.skip("this machine allows it")
    assert "user_allow_other" in refuse(unprivileged_mounts, "--allow-other")


# Unmounting.


def refuse_umount(mounts: Mounts, path: Path, *options: str) -> str:
    ended = mounts.command("umount", *options, path)
    assert (ended.code, ended.out) == (1, b"")
    (sentence,) = ended.err.splitlines()
    return sentence


@pytest.mark.parametrize("options", [(), ("--lazy",)])
def test_unmounting_what_is_not_mounted(
    mounts: Mounts, tmp_path: Path, options: tuple[str, ...]
) -> None:
    for path in (tmp_path, tmp_path / "nosuch", Path("/proc"), Path("/")):
        assert "is not a mount of invoicefs" in refuse_umount(mounts, path, *options)


def test_unmounting_a_folder_inside_a_mount(mounts: Mounts) -> None:
    mount = mounts.mount()
    assert "is not a mount of invoicefs" in refuse_umount(mounts, mount / NAMESPACE)
    assert mount.is_mounted


@NEEDS_ROOT
def test_unmounting_the_mount_of_somebody_else(mounts: Mounts, unprivileged_mounts: Mounts) -> None:
    path = unprivileged_mounts.new_path()
    mount = mounts.mount("--allow-other", path=path)
    assert "cannot be unmounted" in refuse_umount(unprivileged_mounts, path)
    assert mount.is_mounted


# The command is stopped while it waits.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_stopped_while_it_waits_mounts_nothing(
    sandbox: Sandbox, mounts: Mounts, number: signal.Signals
) -> None:
    sandbox.inject(Fault(faults.stall()))
    path = mounts.new_path()
    with mounts.started("mount", path) as command:
        eventually(lambda: sandbox.calls)
        pids = processes_of(path)
        assert len(pids) == 2
        os.kill(command.process.pid, number)
        ended = command.end()
        assert ended.code != 0
        assert "Traceback" not in ended.err
        assert all(wait_for_exit(pid, timeout_s=10) for pid in pids)
    assert not is_mounted(path)


def test_a_foreground_mount_that_is_stopped_while_it_waits_mounts_nothing(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    sandbox.inject(Fault(faults.stall()))
    path = mounts.new_path()
    with mounts.started("mount", "--foreground", path) as command:
        eventually(lambda: sandbox.calls)
        os.kill(command.process.pid, signal.SIGINT)
        ended = command.end()
    assert ended.code != 0
    assert "Traceback" not in ended.err
    assert not is_mounted(path)
