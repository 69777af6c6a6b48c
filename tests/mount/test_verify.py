"""``invoicefs verify``: archives made by real programs, held against a mount."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
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
    plain_pdf,
)
from tests.mount.support.gate import Gate
from tests.mount.support.mounts import NEEDS_ROOT, Mount, Mounts
from tests.mount.support.programs import LIMIT_S, Ended, run, started
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice

INVOICES = tuple(invoice(number, 5_000) for number in range(6))
UNPAID = replace(invoice(6), pdf=None, active=True, status="STATUS_ISSUED")
OTHER = invoice(7)
TENANT = SampleTenant(
    "acme", (SampleNamespace(NAMESPACE, (*INVOICES, UNPAID)), SampleNamespace("other", (OTHER,)))
)
pytestmark = pytest.mark.tenant(TENANT)
CONTENTS = contents(TENANT)
FIRST, SECOND = map(file_name, INVOICES[:2])
ALL_RIGHT = {"right": len(INVOICES) + 1, "not available": 1}


@pytest.fixture
def archive(mount: Mount, tmp_path: Path) -> Path:
    """A copy of the whole mount."""
    archive = tmp_path / "archive"
    rsync(mount.path, archive)
    return archive


def rsync(source: Path, archive: Path) -> None:
    assert run("rsync", "-a", f"{source}/", archive).code in (0, 23, 24)  # one is not available


def verify(mounts: Mounts, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    ended = mounts.command("verify", "--json", *arguments)
    return ended.code, json.loads(ended.out)


def counts(report: Mapping[str, Any]) -> dict[str, int]:
    return {state: count for state, count in report["counts"].items() if count}


def states(report: Mapping[str, Any]) -> dict[str, str]:
    found = {found["path"]: found["state"] for found in report["files"]}
    return {path: state for path, state in found.items() if state != "right"}


@pytest.mark.promise(
    "`invoicefs verify ARCHIVE` proves, without a request for a PDF, that an archive is complete "
    "and unchanged."
)
def test_a_complete_archive_is_right(
    sandbox: Sandbox, mounts: Mounts, mount: Mount, archive: Path
) -> None:
    requests = sandbox.count(Endpoint.PDF)

    code, report = verify(mounts, archive, mount.path)

    assert (code, report["ok"], counts(report)) == (0, True, ALL_RIGHT)
    assert states(report) == {f"{NAMESPACE}/{file_name(UNPAID)}": "not available"}
    assert sandbox.count(Endpoint.PDF) == requests
    assert mounts.alone("verify", archive).good().lines[-1] == (
        f"{archive}: {len(INVOICES) + 1} right, 1 not available."
    )


def test_what_is_known_survives_a_remount(mounts: Mounts, mount: Mount, archive: Path) -> None:
    mounts.umount(mount)
    again = mounts.mount()

    code, report = verify(mounts, archive, again.path)

    assert (code, counts(report)) == (0, ALL_RIGHT)


def copied_with_cp(mount: Mount, archive: Path) -> None:
    run("cp", "-r", mount.path, archive)


def copied_with_tar(mount: Mount, archive: Path) -> None:
    archive.mkdir()
    run("sh", "-c", 'tar -C "$1" -c . | tar -C "$2" -x', "sh", mount.path, archive)


def restored_with_restic(mount: Mount, archive: Path) -> None:
    repository = archive.with_name("repository")
    env = {"RESTIC_PASSWORD": "x", "HOME": str(archive.parent)}
    restic = ("restic", "--repo", repository, "--no-cache")
    run(*restic, "init", env=env).good()
    assert run(*restic, "backup", ".", cwd=mount.path, env=env).code == 3  # one is not available
    run(*restic, "restore", "latest", "--target", archive, env=env).good()


@pytest.mark.parametrize("copy", [copied_with_cp, copied_with_tar, restored_with_restic])
def test_an_archive_of_any_program_is_right(
    mounts: Mounts, mount: Mount, tmp_path: Path, copy: Callable[[Mount, Path], None]
) -> None:
    run("find", mount.path, "-type", "f", "-exec", "cat", "{}", "+")
    archive = tmp_path / "archive"
    copy(mount, archive)

    code, report = verify(mounts, archive, mount.path)

    assert (code, counts(report)) == (0, ALL_RIGHT), states(report)


@pytest.mark.promise(
    "It names each file that is damaged, swapped with another one, renamed, missing or extra."
)
def test_every_fault_of_an_archive_is_found(mounts: Mounts, mount: Mount, archive: Path) -> None:
    folder = archive / NAMESPACE
    flipped, cut, one, two, renamed, missing = (folder / file_name(item) for item in INVOICES)
    for path in folder.iterdir():
        path.chmod(0o644)
    flipped.write_bytes(bytes([flipped.read_bytes()[0] ^ 4]) + flipped.read_bytes()[1:])
    os.truncate(cut, 4_000)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    renamed.rename(folder / "renamed.pdf")
    missing.unlink()
    (folder / "notes.txt").write_text("mine")

    code, report = verify(mounts, archive, mount.path)

    assert (code, report["ok"]) == (1, False)
    assert states(report) == {
        **{f"{NAMESPACE}/{path.name}": "different" for path in (flipped, cut, one, two)},
        **{f"{NAMESPACE}/{path.name}": "missing" for path in (renamed, missing)},
        f"{NAMESPACE}/{file_name(UNPAID)}": "not available",
        f"{NAMESPACE}/renamed.pdf": "extra",
        f"{NAMESPACE}/notes.txt": "extra",
    }
    quiet = mounts.command("verify", "--quiet", archive, mount.path)
    assert (quiet.code, len(quiet.lines)) == (1, 6)
    report_lines = mounts.command("verify", archive, mount.path).text
    assert f"extra: {NAMESPACE}/renamed.pdf (it has the content of {NAMESPACE}/{renamed.name})" in (
        report_lines
    )


@pytest.mark.promise("A copy of an earlier version is outdated, not different.")
def test_a_draft_that_became_final_is_outdated_before_and_after_its_download(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    draft = replace(INVOICES[0], active=True, status="STATUS_PENDING")
    sandbox.tenant = SampleTenant("acme", (SampleNamespace(NAMESPACE, (draft,)),))
    mount, archive = mounts.mount("--list-ttl", "0s"), tmp_path / "archive"
    rsync(mount.path, archive)
    final = replace(INVOICES[0], pdf=plain_pdf("final", 6_000))
    sandbox.tenant = SampleTenant("acme", (SampleNamespace(NAMESPACE, (final,)),))

    assert verify(mounts, archive, mount.path)[1]["counts"]["outdated"] == 1
    code, report = verify(mounts, "--fetch", archive, mount.path)
    assert (code, counts(report)) == (1, {"outdated": 1})

    rsync(mount.path, archive)
    assert verify(mounts, archive, mount.path)[0] == 0


@pytest.mark.promise(
    "An invoice that was never downloaded is not verified, unless `--fetch` downloads it."
)
def test_fetch_compares_what_was_never_downloaded(
    sandbox: Sandbox, mounts: Mounts, mount: Mount, archive: Path
) -> None:
    mounts.umount(mount)
    fresh = mounts.mount("--cache-dir", str(mounts.folder / "new cache"))
    sandbox.forget_calls()

    code, report = verify(mounts, archive, fresh.path)
    assert (code, counts(report)) == (1, {"not verified": len(INVOICES) + 1, "missing": 1})
    assert sandbox.count(Endpoint.PDF) == 0

    code, report = verify(mounts, "--fetch", archive, fresh.path)
    assert (code, counts(report)) == (0, ALL_RIGHT)
    assert sandbox.count(Endpoint.PDF) == len(INVOICES) + 2


def test_a_fetch_that_fails_verifies_nothing(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    draft = replace(INVOICES[0], active=True, status="STATUS_PENDING")
    sandbox.tenant = SampleTenant("acme", (SampleNamespace(NAMESPACE, (draft,)),))
    mount, archive = mounts.mount("--active-ttl", "0s", "--max-wait", "0s"), tmp_path / "archive"
    rsync(mount.path, archive)
    sandbox.inject(Fault(faults.status(403, "not for you"), Endpoint.PDF))

    code, report = verify(mounts, "--fetch", archive, mount.path)

    assert (code, counts(report)) == (1, {"not verified": 1})
    assert "not for you" in report["files"][0]["words"]


@pytest.mark.promise(
    "`--sums` writes a file for `sha256sum -c`, which does not count as an extra file."
)
def test_sha256sum_accepts_the_sums(mounts: Mounts, mount: Mount, archive: Path) -> None:
    sums = archive / "SHA256SUMS"
    mounts.command("verify", "--sums", sums, archive, mount.path).good()

    run("sha256sum", "--check", "--strict", "--quiet", sums, cwd=archive).good()
    assert counts(verify(mounts, archive, mount.path)[1]) == ALL_RIGHT
    (archive / NAMESPACE / FIRST).unlink()
    mounts.command("verify", "--sums", sums, archive, mount.path)
    assert run("sha256sum", "--check", "--quiet", sums, cwd=archive).code == 1


def test_sums_replace_no_file_of_the_archive(mounts: Mounts, mount: Mount, archive: Path) -> None:
    before = (archive / NAMESPACE / FIRST).read_bytes()
    (archive / "SHA256SUMS.new").write_text("mine")
    for path in (archive / NAMESPACE / FIRST, archive / "sums", archive / NAMESPACE / "SHA256SUMS"):
        ends_with(mounts.command("verify", "--sums", path, archive, mount.path), 2, "can only be")
    mounts.command("verify", "--sums", archive / "SHA256SUMS", archive, mount.path).good()

    assert (archive / NAMESPACE / FIRST).read_bytes() == before
    assert (archive / "SHA256SUMS.new").read_text() == "mine"


def test_sums_do_not_replace_the_archive_if_that_is_a_file(
    mounts: Mounts, mount: Mount, archive: Path
) -> None:
    copy, path = archive / NAMESPACE / FIRST, mount / NAMESPACE / FIRST
    before = copy.read_bytes()

    for sums in (copy, copy.with_name(SECOND)):
        ends_with(mounts.command("verify", "--sums", sums, copy, path), 2, "can only be")
    one = mounts.command("verify", "--sums", mounts.folder / "sums", copy, path)
    ends_with(one, 1, "PATH is a single invoice")

    assert copy.read_bytes() == before


def test_sums_are_not_replaced_by_a_mount_that_knows_less(
    mounts: Mounts, mount: Mount, archive: Path
) -> None:
    sums = archive / "SHA256SUMS"
    mounts.command("verify", "--sums", sums, archive, mount.path).good()
    before = sums.read_bytes()
    fresh = mounts.mount("--cache-dir", str(mounts.folder / "new cache"))

    ended = mounts.command("verify", "--sums", sums, archive, fresh.path)

    ends_with(ended, 1, "add --fetch")
    assert sums.read_bytes() == before


def test_sums_lose_no_file_that_another_mount_does_not_show(
    mounts: Mounts, mount: Mount, archive: Path
) -> None:
    sums = archive / "SHA256SUMS"
    mounts.command("verify", "--sums", sums, archive, mount.path).good()
    before = sums.read_bytes()
    other = mounts.mount("--namespace", "other")

    for copy, path in ((archive, other.path), (archive / "other", other / "other")):
        ended = mounts.command("verify", "--sums", sums, copy, path)
        ends_with(ended, 1, "was not written")

    assert sums.read_bytes() == before


def test_sums_are_written_through_links_and_to_pipes(
    mounts: Mounts, mount: Mount, archive: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("target")
    os.mkfifo(tmp_path / "pipe")
    mounts.command("verify", "--sums", tmp_path / "link", archive, mount.path).good()
    with started("cat", tmp_path / "pipe") as reader:
        mounts.command("verify", "--sums", tmp_path / "pipe", archive, mount.path).good()
        piped = reader.end().good()

    assert (tmp_path / "link").is_symlink()
    assert piped.out == (tmp_path / "target").read_bytes() != b""


def test_sums_are_not_replaced_if_a_listing_fails(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    mount, archive = mounts.mount("--list-ttl", "0s", "--max-wait", "0s"), tmp_path / "archive"
    rsync(mount.path, archive)
    sums = archive / "SHA256SUMS"
    mounts.command("verify", "--sums", sums, archive, mount.path).good()
    before = sums.read_bytes()
    sandbox.inject(Fault(faults.status(403), Endpoint.INVOICES, namespace="other"))

    ended = mounts.command("verify", "--sums", sums, archive, mount.path)

    assert (ended.code, sums.read_bytes()) == (1, before)
    assert "was not written" in ended.err


def test_a_paid_invoice_that_the_api_does_not_have_is_a_fault(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    sandbox.inject(Fault(faults.status(404), Endpoint.PDF, name=INVOICES[0].name))
    mount, archive = mounts.mount(), tmp_path / "archive"
    rsync(mount.path, archive)

    code, report = verify(mounts, archive, mount.path)

    assert (code, counts(report)["not available"]) == (1, 2)
    words = {found["path"]: found["words"] for found in report["files"] if found["fault"]}
    assert words == {
        f"{NAMESPACE}/{FIRST}": "the API has no PDF of it, although its status is paid"
    }


def test_a_namespace_or_an_invoice_is_compared_alone(
    mounts: Mounts, mount: Mount, archive: Path
) -> None:
    folder = archive / NAMESPACE
    for copy, path in (
        (folder, mount / NAMESPACE),
        (folder / FIRST, mount / NAMESPACE / FIRST),
        (folder, mount / NAMESPACE / FIRST),
    ):
        code, report = verify(mounts, copy, path)
        assert (code, report["counts"]["extra"], report["counts"]["missing"]) == (0, 0, 0)
    code, report = verify(mounts, folder / SECOND, mount / NAMESPACE / FIRST)
    assert (code, report["files"][0]["state"]) == (1, "different")


def test_why_an_invoice_is_missing_is_explained(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    refused = faults.status(403, "not for you")
    sandbox.inject(Fault(refused, Endpoint.PDF, name=INVOICES[0].name))
    mount, archive = mounts.mount(), tmp_path / "archive"
    rsync(mount.path, archive)

    ended = mounts.command("verify", archive, mount.path)

    assert ended.code == 1
    missing = f"missing: {NAMESPACE}/{FIRST} (the server answered 403: not for you)"
    assert missing in ended.lines


# Bad input.


def ends_with(ended: Ended, code: int, words: str) -> None:
    assert ended.code == code, ended
    assert words in ended.err.splitlines()[-1]


def test_bad_arguments_are_one_sentence(mounts: Mounts, mount: Mount, archive: Path) -> None:
    ends_with(mounts.command("verify"), 2, "Missing argument")
    ends_with(mounts.command("verify", archive, archive), 1, "is not in a mount of invoicefs")
    ends_with(mounts.command("verify", mount.path, archive), 2, "give the copy first")
    nowhere = archive / "nowhere"
    ends_with(mounts.command("verify", nowhere, mount.path), 1, "No such file or directory")
    ends_with(
        mounts.command("verify", "--sums", "/dev/full/x", archive, mount.path), 1, "/dev/full"
    )
    second = mounts.mount()
    ends_with(mounts.alone("verify", archive), 2, "several mounts")
    for one in (mount, second):
        mounts.umount(one)
    ends_with(mounts.alone("verify", archive), 1, "You have no mounts")


def test_an_archive_is_not_proved_by_a_mount_without_invoices(
    mounts: Mounts, tmp_path: Path
) -> None:
    mount = mounts.mount("--status", "refunded")

    ends_with(mounts.command("verify", tmp_path, mount.path), 1, "nothing could be compared")


def test_a_mount_in_the_archive_is_not_entered(
    sandbox: Sandbox, mounts: Mounts, mount: Mount, archive: Path
) -> None:
    inner = mounts.mount(path=mounts.new_path("archive/inner"))
    sandbox.forget_calls()
    assert inner.path.parent == archive

    ended = mounts.command("verify", archive, mount.path)

    assert (ended.code, f"{inner.path} is a mount of invoicefs" in ended.err) == (1, True)
    assert sandbox.count(Endpoint.PDF) == 0


def test_a_stopped_mount_in_the_archive_is_not_waited_for(
    mounts: Mounts, mount: Mount, archive: Path
) -> None:
    inner = mounts.mount(path=mounts.new_path("archive/inner"))
    os.kill(inner.daemon, signal.SIGSTOP)
    try:
        ended = mounts.command("verify", archive, mount.path)
    finally:
        os.kill(inner.daemon, signal.SIGCONT)

    assert (ended.code, f"{inner.path} is a mount of invoicefs" in ended.err) == (1, True)


def test_ctrl_c_ends_a_comparison_that_waits_for_a_listing(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    gate = Gate()
    mount = mounts.mount()
    sandbox.inject(Fault(gate, Endpoint.INVOICES))
    with mounts.started("verify", tmp_path, mount.path) as running:
        assert gate.arrived.wait(LIMIT_S)
        for _ in range(2):
            running.process.send_signal(signal.SIGINT)
        ended = running.end()
        gate.open()

    # The second signal may arrive when Python no longer handles any.
    assert ended.code in (130, -signal.SIGINT)
    assert "Traceback" not in ended.err


def test_a_dead_mount_verifies_nothing(mounts: Mounts, mount: Mount, archive: Path) -> None:
    mount.kill()

    ended = mounts.command("verify", archive, mount.path)

    assert (ended.code, ended.text, len(ended.err.splitlines())) == (1, "", 1)
    assert "process may have ended" in ended.err


def test_an_archive_of_another_tenant_is_recognised(
    mounts: Mounts, mount: Mount, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    (archive / "billing").mkdir(parents=True)
    (archive / "billing" / "2020.pdf").write_bytes(b"%PDF-1.4 %%EOF")

    ended = mounts.command("verify", archive, mount.path)

    assert ended.code == 1
    assert "may be that of another tenant" in ended.lines[-1]


def test_a_namespace_that_may_not_be_listed_is_a_fault_only_if_the_archive_has_it(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    forbidden = replace(TENANT.by_name["other"], forbidden=frozenset({Endpoint.INVOICES}))
    sandbox.tenant = SampleTenant("acme", (TENANT.by_name[NAMESPACE], forbidden))
    mount, archive = mounts.mount(), tmp_path / "archive"
    rsync(mount.path, archive)

    code, report = verify(mounts, archive, mount.path)
    assert (code, report["ok"], len(report["remarks"])) == (0, True, 1)

    (archive / "SHA256SUMS").write_text(f"{'0' * 64}  other/lost.pdf\n")
    assert verify(mounts, archive, mount.path)[0] == 1
    (archive / "SHA256SUMS").unlink()

    (archive / "other" / file_name(OTHER)).write_bytes(b"%PDF")
    code, report = verify(mounts, archive, mount.path)
    assert (code, len(report["failures"])) == (1, 1)
    assert states(report)[f"other/{file_name(OTHER)}"] == "not verified"


@pytest.mark.parametrize("status", [403, 500])
def test_an_archive_is_not_right_if_a_listing_fails(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path, status: int
) -> None:
    mount, archive = mounts.mount("--list-ttl", "0s", "--max-wait", "0s"), tmp_path / "archive"
    rsync(mount.path, archive)
    sandbox.inject(Fault(faults.status(status), Endpoint.INVOICES, namespace="other"))

    ended = mounts.command("verify", archive, mount.path)

    assert ended.code == 1
    assert f"{mount.path}/other: " in ended.err


@NEEDS_ROOT
def test_a_full_disk_leaves_the_old_sums(
    mounts: Mounts, mount: Mount, archive: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=16k", "none", disk).good()
    try:
        sums = disk / "SHA256SUMS"
        sums.write_text("old")
        (disk / "filler").write_bytes(bytes(8 * 1024))
        run("sh", "-c", 'head -c 1M /dev/zero > "$1"', "sh", disk / "filler")
        ended = mounts.command("verify", "--sums", sums, archive, mount.path)
        ends_with(ended, 1, "No space left")
        assert sums.read_text() == "old"
        assert Counter(os.listdir(disk)) == {"SHA256SUMS": 1, "filler": 1}
    finally:
        run("umount", disk)
