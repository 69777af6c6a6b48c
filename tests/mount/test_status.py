"""``invoicefs status`` and ``refresh``: what a mount reports, and how it is refreshed."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from invoicefs.sandbox import (
    Endpoint,
    Fault,
    SampleNamespace,
    SampleTenant,
    Sandbox,
    faults,
)
from tests.mount.support.gate import Gate
from tests.mount.support.mounts import NEEDS_ROOT, Mount, Mounts
from tests.mount.support.programs import LIMIT_S, eventually, run
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant

INVOICES = tuple(invoice(number) for number in range(6))
CONTENTS = contents(tenant(*INVOICES))


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(tenant(*INVOICES)) as sandbox:
        yield sandbox


def status(mounts: Mounts, *arguments: str | Path) -> list[dict[str, Any]]:
    command = mounts.command if arguments else mounts.alone
    found = json.loads(command("status", "--json", *arguments).good().out)
    assert isinstance(found, list)
    return found


def counted(sandbox: Sandbox) -> Mapping[str, Mapping[str, int]]:
    """The requests that the server counted, in the form of ``status``."""
    found: dict[str, Counter[str]] = {}
    for call in sandbox.calls:
        assert call.endpoint is not None
        found.setdefault(call.endpoint.value, Counter())[str(call.status)] += 1
    return found


@pytest.mark.promise(
    "`invoicefs status` shows what a mount is doing, without a request, and its counters "
    "match those of the server."
)
def test_status_counts_what_the_server_counts(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.inject(
        Fault(faults.status(503), Endpoint.PDF, name=INVOICES[0].name, times=1),
        Fault(faults.status(404), Endpoint.PDF, name=INVOICES[1].name),
    )
    mount = mounts.mount("--read-ahead", "0")
    folder = mount / NAMESPACE
    run("cat", *(folder / name for name in CONTENTS))
    run("cat", *(folder / name for name in CONTENTS))

    (found,) = status(mounts, mount.path)

    assert found["requests"] == counted(sandbox)
    assert (found["namespaces"], found["invoices"]) == (1, len(CONTENTS))
    assert found["fetched"] == found["downloads"] == len(CONTENTS) - 1
    fetched = sum(map(len, CONTENTS.values())) - len(CONTENTS[file_name(INVOICES[1])])
    assert found["fetched_bytes"] == fetched
    assert found["store_hits"] == len(CONTENTS) - 1
    assert found["url"] == sandbox.url
    assert "INVOICEFS_TOKEN" in found["credential"]
    assert sandbox.token not in json.dumps(found)


@pytest.mark.promise("It shows recent failures, with the path and the reason in words.")
def test_status_shows_recent_failures_with_path_and_reason(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    mount = mounts.mount("--max-wait", "0s")
    refused = faults.status(403, "not for you")
    sandbox.inject(Fault(refused, Endpoint.PDF, name=INVOICES[2].name))
    run("cat", mount / NAMESPACE / file_name(INVOICES[2]))

    screen = mounts.command("status", mount.path).good()

    assert f"/{NAMESPACE}/{file_name(INVOICES[2])}: the server answered 403: not for you" in (
        screen.text
    )
    assert screen.text.startswith(str(mount.path))
    assert screen.err == ""


@pytest.mark.promise(
    "It shows how old the listings are, and of which namespaces the last good one is shown."
)
def test_status_shows_the_age_of_listings_and_which_are_outdated(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    mount = mounts.mount("--max-wait", "0s")
    run("ls", mount / NAMESPACE).good()
    (before,) = status(mounts, mount.path)
    sandbox.inject(Fault(faults.status(500), Endpoint.INVOICES))
    mounts.command("refresh", mount.path)

    (after,) = status(mounts, mount.path)

    assert (before["listings"]["count"], before["listings"]["outdated"]) == (1, [])
    assert before["since_s"] <= before["listings"]["oldest_s"] <= before["now_s"]
    assert after["listings"]["outdated"] == [NAMESPACE]
    assert abs(after["listings"]["newest_s"] - before["listings"]["newest_s"]) < 1


@NEEDS_ROOT
@pytest.mark.promise("It shows all your mounts and nobody else's.")
def test_status_shows_all_mounts_of_the_user_and_no_others(
    mounts: Mounts, unprivileged_mounts: Mounts
) -> None:
    mine = [mounts.mount(), mounts.mount()]
    theirs = unprivileged_mounts.mount()

    assert [shown["mount_point"] for shown in status(mounts)] == [str(item.path) for item in mine]
    found = json.loads(unprivileged_mounts.alone("status", "--json").good().out)
    assert [match["mount_point"] for match in found] == [str(theirs.path)]
    for other, path in ((unprivileged_mounts, mine[0].path), (mounts, theirs.path)):
        refused = other.command("status", path)
        assert (refused.code, "No mount of yours" in refused.err) == (1, True)


@pytest.mark.promise("It shows all your mounts and nobody else's.")
def test_a_killed_mount_hides_no_other(mounts: Mounts) -> None:
    killed, alive = mounts.mount(), mounts.mount()
    killed.kill()

    assert [shown["mount_point"] for shown in status(mounts)] == [str(alive.path)]
    warning = f"{killed.path}: Its process has ended: invoicefs umount --lazy {killed.path}"
    assert warning in mounts.alone("status").good().err
    refused = mounts.command("status", killed.path)
    assert (refused.code, "process may have ended" in refused.err) == (1, True)


@contextmanager
def stopped(mount: Mount) -> Iterator[None]:
    """Stop the process of a mount."""
    os.kill(mount.daemon, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(mount.daemon, signal.SIGCONT)


@pytest.mark.promise("It shows all your mounts and nobody else's.")
def test_a_mount_that_does_not_respond_is_reported_and_hides_no_other(mounts: Mounts) -> None:
    silent, alive = mounts.mount(), mounts.mount()
    with stopped(silent):
        ended = mounts.alone("status", "--json")

    assert ended.code == 1
    assert [shown["mount_point"] for shown in json.loads(ended.out)] == [str(alive.path)]
    assert ended.err.startswith(f"invoicefs: {silent.path}: ")


@pytest.mark.promise("No command hangs on a mount whose process is stopped or was killed.")
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("status", "{mount}"), "The mount does not respond"),
        (("status", "{link}"), "does not respond: it leads to a mount that hangs"),
        (("doctor",), ""),
        (("mount", "{mount}"), "is already mounted"),
        (("list", "{mount}"), "The mount does not respond"),
        (("refresh", "{mount}"), "The mount does not respond"),
        (("verify", "{folder}", "{mount}"), "The mount does not respond"),
        (("verify", "{link}"), "does not respond: it leads to a mount that hangs"),
        (("verify", "--sums", "{link}/x", "{folder}", "{mount}"), "a mount that hangs"),
    ],
)
def test_no_command_hangs_on_a_stopped_mount(
    mounts: Mounts, tmp_path: Path, command: Sequence[str], words: str
) -> None:
    """A status of its path waited for the mount, and so did doctor and another mount command."""
    mount, link = mounts.mount(), tmp_path / "link"
    link.symlink_to(mount.path)
    with stopped(mount):
        paths = {"mount": mount.path, "link": link, "folder": tmp_path}
        ended = mounts.command(*(word.format(**paths) for word in command))

    assert words in ended.err


def _checked(mounts: Mounts, mount: Mount) -> tuple[int, str]:
    ended = mounts.command("status", "--check", mount.path)
    assert ended.out == b""
    return ended.code, ended.err.removeprefix(f"invoicefs: {mount.path}: ").removesuffix("\n")


@pytest.mark.promise(
    "`invoicefs status --check` prints nothing and exits with status 0 if all is well, even if "
    "an invoice is not available or the rate limit is reached."
)
def test_a_check_is_quiet_if_all_is_well(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.inject(
        Fault(faults.status(404), Endpoint.PDF, name=INVOICES[1].name),
        Fault(faults.status(429), Endpoint.PDF, name=INVOICES[2].name),
    )
    mount = mounts.mount("--read-ahead", "0", "--max-wait", "0s")
    for number in range(3):
        run("cat", mount / NAMESPACE / file_name(INVOICES[number]))
        assert _checked(mounts, mount) == (0, "")
    assert json.loads(mounts.alone("status", "--check", "--json").good().out) == []


@pytest.mark.promise(
    "Otherwise it prints one line for each mount that is dead or does not respond, whose "
    "credential is refused, or whose last request failed, and exits with status 1."
)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            Fault(faults.status(401, "no"), Endpoint.PDF),
            "the API refuses the credential: the server answered 401: no",
        ),
        (
            Fault(faults.status(500, "no"), Endpoint.PDF),
            "the last request for a PDF failed: the server answered 500: no",
        ),
        (
            Fault(faults.status(403, "no"), Endpoint.INVOICES),
            f"{NAMESPACE} may no longer be listed: the server answered 403: no",
        ),
        (
            Fault(faults.status(503, "no"), Endpoint.INVOICES),
            "the last request for a listing failed: the server answered 503: no",
        ),
    ],
)
def test_a_check_reports_what_fails_until_it_succeeds(
    sandbox: Sandbox, mounts: Mounts, fault: Fault, words: str
) -> None:
    mount = mounts.mount("--read-ahead", "0", "--max-wait", "0s", "--list-ttl", "1h")
    run("ls", mount / NAMESPACE).good()
    sandbox.inject(fault)
    mounts.command("refresh", mount.path)
    run("cat", mount / NAMESPACE / file_name(INVOICES[0]))

    assert _checked(mounts, mount) == (1, words)

    sandbox.heal()

    def is_well() -> bool:  # a recent failure is repeated for some seconds
        mounts.command("refresh", mount.path)
        run("cat", mount / NAMESPACE / file_name(INVOICES[0]))
        return _checked(mounts, mount) == (0, "")

    eventually(is_well)


@pytest.mark.promise(
    "Otherwise it prints one line for each mount that is dead or does not respond, whose "
    "credential is refused, or whose last request failed, and exits with status 1."
)
def test_a_check_reports_dead_and_stopped_mounts_and_that_there_are_none(mounts: Mounts) -> None:
    none = mounts.alone("status", "--check")
    assert (none.code, none.out, none.err) == (1, b"", "invoicefs: You have no mounts.\n")
    killed, silent, _ = mounts.mount(), mounts.mount(), mounts.mount()
    killed.kill()
    with stopped(silent):
        ended = mounts.alone("status", "--check")
        found = json.loads(mounts.alone("status", "--check", "--json").out)

    dead = f"Its process has ended: invoicefs umount --lazy {killed.path}"
    assert (ended.code, ended.out) == (1, b"")
    assert ended.err.splitlines() == [
        f"invoicefs: {killed.path}: {dead}",
        f"invoicefs: {silent.path}: The mount does not respond: timed out.",
    ]
    assert [(problem["mount_point"], problem["kind"]) for problem in found] == [
        (str(killed.path), "dead"),
        (str(silent.path), "silent"),
    ]


def test_without_a_mount_status_and_refresh_say_so(mounts: Mounts, tmp_path: Path) -> None:
    assert mounts.alone("status").good().text == "You have no mounts.\n"
    assert status(mounts) == []
    refused = mounts.command("status", tmp_path)
    assert (refused.code, "not in a mount of invoicefs" in refused.err) == (1, True)
    refused = mounts.alone("refresh")
    assert (refused.code, refused.err) == (1, "invoicefs: You have no mounts.\n")


@pytest.mark.parametrize("inside", ["", NAMESPACE, f"{NAMESPACE}/x.pdf"])
def test_a_mount_is_found_from_any_path_in_it(mount: Mount, mounts: Mounts, inside: str) -> None:
    (found,) = status(mounts, mount.path / inside)

    assert found["mount_point"] == str(mount.path)


def test_a_mount_responds_while_a_download_waits(sandbox: Sandbox, mounts: Mounts) -> None:
    mount, gate = mounts.mount(), Gate()
    sandbox.inject(Fault(gate, Endpoint.PDF))
    with mounts.started_python(
        "import sys; open(sys.argv[1])", mount / NAMESPACE / file_name(INVOICES[0])
    ) as reader:
        assert gate.arrived.wait(LIMIT_S)
        (found,) = status(mounts, mount.path)
        gate.open()
        reader.end().good()

    assert found["calls"]["running"] == 1


# Refreshing.


@pytest.mark.promise(
    "`invoicefs refresh` refreshes listings at once, and has drafts downloaded again when "
    "they are next opened."
)
def test_refresh_lists_again_at_once(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount("--list-ttl", "1h")
    run("ls", mount / NAMESPACE).good()
    new = invoice(7)
    sandbox.tenant = tenant(*INVOICES, new)
    assert file_name(new) not in run("ls", mount / NAMESPACE).good().lines

    assert mounts.command("refresh", mount.path).good().out == b""

    assert file_name(new) in run("ls", mount / NAMESPACE).good().lines
    assert sandbox.count(Endpoint.INVOICES) == 2


def test_refresh_of_a_namespace_lists_that_one(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount("--list-ttl", "1h")
    run("ls", mount / NAMESPACE).good()

    mounts.command("refresh", ".", cwd=mount / NAMESPACE).good()

    assert sandbox.count(Endpoint.INVOICES, namespace=NAMESPACE) == 2
    assert sandbox.count(Endpoint.NAMESPACES) == 1


@pytest.mark.promise(
    "`invoicefs refresh` refreshes listings at once, and has drafts downloaded again when "
    "they are next opened."
)
def test_refresh_downloads_drafts_again_but_not_final_invoices(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    active = replace(invoice(8), active=True)
    sandbox.tenant = tenant(*INVOICES, active)
    mount = mounts.mount("--read-ahead", "0")
    paths = [mount / NAMESPACE / file_name(item) for item in (INVOICES[0], active)]
    run("cat", *paths).good()
    run("cat", *paths).good()
    assert sandbox.count(Endpoint.PDF) == 2

    mounts.command("refresh", mount.path).good()
    eventually(lambda: status(mounts, mount.path)[0]["open"] == 0)
    run("cat", *paths).good()

    assert sandbox.count(Endpoint.PDF, name=INVOICES[0].name) == 1
    assert sandbox.count(Endpoint.PDF, name=active.name) == 2


def test_refresh_without_a_path_refreshes_all_mounts(sandbox: Sandbox, mounts: Mounts) -> None:
    for mount in (mounts.mount("--list-ttl", "1h"), mounts.mount("--list-ttl", "1h")):
        run("ls", mount / NAMESPACE).good()

    assert mounts.alone("refresh").good().err == ""
    assert sandbox.count(Endpoint.INVOICES) == 4

    sandbox.inject(Fault(faults.status(500, "out of order")))
    ended = mounts.alone("refresh")
    assert (ended.code, ended.err.count("out of order")) == (1, 2)


def test_refresh_lists_the_rest_when_a_namespace_is_gone_or_forbidden(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    new, before = invoice(7), ("gone", "closed", NAMESPACE)
    active = replace(invoice(8), active=True)  # a final invoice would keep its namespace
    listed = tuple(SampleNamespace(name, (active,)) for name in before)
    sandbox.tenant = SampleTenant("acme", listed)
    mount = mounts.mount("--list-ttl", "1h", "--max-wait", "0s")
    for name in before:
        run("ls", mount / name).good()
    closed, own = listed[1], SampleNamespace(NAMESPACE, (new,))
    sandbox.tenant = SampleTenant("acme", (closed, own))
    assert mounts.command("refresh", mount.path).good().err == ""
    assert run("ls", mount / NAMESPACE).good().lines == [file_name(new)]
    assert _checked(mounts, mount) == (0, "")

    closed = replace(closed, forbidden=frozenset({Endpoint.INVOICES}))
    own = SampleNamespace(NAMESPACE, (new, *INVOICES))
    sandbox.tenant = SampleTenant("acme", (closed, own))
    ended = mounts.command("refresh", mount.path)

    assert (ended.code, "403" in ended.err) == (1, True)
    assert len(run("ls", mount / NAMESPACE).good().lines) == 1 + len(INVOICES)


def test_a_mount_is_found_by_its_path_alone(mounts: Mounts) -> None:
    above = mounts.folder / "above"
    path = mounts.new_path("above/mnt")
    mounts.command("mount", "--cache-dir", mounts.folder / "elsewhere", path).good()
    mount = mounts.at(path)
    renamed = above.with_name("renamed")
    above.rename(renamed)
    path = renamed / "mnt"
    env = {"XDG_RUNTIME_DIR": "/nowhere", "XDG_CACHE_HOME": "/nowhere"}
    try:
        found = json.loads(mounts.command("status", "--json", path, env=env).good().out)
        assert [match["mount_point"] for match in found] == [str(path)]
        mounts.command("refresh", path, env=env).good()
        mounts.command("fetch", path / NAMESPACE, env=env).good()
    finally:
        mounts.command("umount", path).good()
    mount.wait_until_ended()
