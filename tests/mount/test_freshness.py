"""Content that changes: its attributes, its copies in an archive, and what never changes."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from invoicefs.sandbox import OMITTED, Endpoint, SampleInvoice, Sandbox, plain_pdf
from tests.mount.support.files import UPPER_BOUND_BYTES, in_folder, stat_of
from tests.mount.support.mounts import Mounts
from tests.mount.support.programs import Argument, eventually, run, started
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant

OLD, NEW = (b"%PDF-1.4\n" + letter * 300_000 + b"%%EOF\n" for letter in (b"o", b"n"))
NUMBER = 5
FINAL = replace(invoice(NUMBER), pdf=NEW)
NAME = file_name(FINAL)

ALWAYS_REFRESH = ("--list-ttl", "0s")


def draft(pdf: bytes | Callable[[], bytes], amount: str = "100") -> SampleInvoice:
    return replace(invoice(NUMBER), pdf=pdf, active=True, status="STATUS_PENDING", amount=amount)


# Size and time.


@pytest.mark.promise(
    "Once a file was opened, its date changes when its content changes, and at no other time."
)
@pytest.mark.parametrize(
    "new", [NEW, NEW[:9] + NEW[-70_000:], NEW + NEW], ids=["same size", "shorter", "longer"]
)
def test_an_invoice_that_becomes_final_shows_its_new_size_for_one_request(
    sandbox: Sandbox, mounts: Mounts, new: bytes
) -> None:
    sandbox.tenant = tenant(draft(OLD))
    path = mounts.mount(*ALWAYS_REFRESH) / NAMESPACE / NAME
    assert run("cat", path).good().out == OLD
    (before,) = stat_of(path)
    sandbox.tenant = tenant(replace(FINAL, pdf=new))
    (after,) = stat_of(path)
    assert after.size == len(new)
    assert after.mtime > before.mtime
    assert after.inode == before.inode
    assert run("cat", path).good().out == new
    assert stat_of(path) == [after]
    assert sandbox.count(Endpoint.PDF) == 2


@pytest.mark.promise(
    "Once a file was opened, its date changes when its content changes, and at no other time."
)
def test_the_time_is_kept_if_only_the_listing_changed(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.tenant = tenant(draft(OLD))
    path = mounts.mount(*ALWAYS_REFRESH) / NAMESPACE / NAME
    run("cat", path).good()
    before = stat_of(path)
    sandbox.tenant = tenant(replace(FINAL, pdf=OLD))
    assert stat_of(path) == before
    assert sandbox.count(Endpoint.PDF) == 2


@pytest.mark.promise(
    "A draft expires `--active-ttl` (5 minutes) after its download: it shows the upper bound "
    "again, and the next open downloads it again."
)
def test_an_expired_draft_is_downloaded_again_when_it_is_opened(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    sandbox.tenant = tenant(draft(OLD))
    path = mounts.mount("--active-ttl", "0s") / NAMESPACE / NAME
    assert run("cat", path).good().out == OLD
    sandbox.tenant = tenant(draft(NEW))
    (between,) = stat_of(path)
    assert (between.size, between.blocks) == (UPPER_BOUND_BYTES, 0)
    assert sandbox.count(Endpoint.PDF) == 1
    assert run("cat", path).good().out == NEW


# Archives, made by an ordinary user, because root may write to read-only copies.

Archive = Callable[[Mounts, Path], list[str]]


def by_rsync(mounts: Mounts, source: Path, *options: str) -> list[str]:
    """Run rsync; return the names of the files that it copied."""
    argv: Sequence[Argument] = (
        "rsync",
        "-a",
        *options,
        "--out-format=%n",
        f"{source}/",
        mounts.folder / "archive",
    )
    return [line for line in mounts.run(*argv).good().lines if line.endswith(".pdf")]


def by_rsync_a(mounts: Mounts, source: Path) -> list[str]:
    return by_rsync(mounts, source)


def by_rsync_au(mounts: Mounts, source: Path) -> list[str]:
    return by_rsync(mounts, source, "-u")


def by_cp(mounts: Mounts, source: Path, options: str) -> list[str]:
    argv = ("cp", options, "--verbose", "--no-target-directory", source, mounts.folder / "archive")
    lines = [line for line in mounts.run(*argv).good().lines if not line.startswith("removed")]
    copied = [line.rpartition("/")[2].rstrip("'") for line in lines]
    return [name for name in copied if name.endswith(".pdf")]


def by_cp_ruf(mounts: Mounts, source: Path) -> list[str]:
    return by_cp(mounts, source, "-ruf")


def by_cp_auf(mounts: Mounts, source: Path) -> list[str]:
    return by_cp(mounts, source, "-auf")


def archived(mounts: Mounts) -> dict[str, bytes]:
    return in_folder(mounts.folder / "archive")


CHANGED = {
    "another amount": draft(NEW, amount="101"),
    "final, same size": replace(FINAL, pdf=NEW),
    "final, longer": replace(FINAL, pdf=NEW + NEW),
}


@pytest.mark.promise(
    "An invoice that was opened before and has changed in the listing is downloaded again on "
    "`stat`, so `rsync -a`, `rsync -au` and `cp -ruf` update an archive in one run."
)
@pytest.mark.parametrize(
    ("is_remounted", "change", "archive"),
    [
        (False, "final, same size", by_rsync_a),
        (False, "final, same size", by_rsync_au),
        (False, "final, same size", by_cp_ruf),
        (False, "final, same size", by_cp_auf),
        (False, "final, longer", by_rsync_a),
        (False, "another amount", by_rsync_a),
        (True, "final, same size", by_rsync_a),
        (True, "another amount", by_rsync_a),
    ],
)
def test_the_next_archive_run_copies_what_changed_and_then_nothing(
    sandbox: Sandbox,
    unprivileged_mounts: Mounts,
    archive: Archive,
    change: str,
    is_remounted: bool,
) -> None:
    mounts, others = unprivileged_mounts, [invoice(number) for number in range(3)]
    sandbox.tenant = tenant(draft(OLD), *others)
    mount = mounts.mount(*ALWAYS_REFRESH)
    assert len(archive(mounts, mount / NAMESPACE)) == 4
    assert archive(mounts, mount / NAMESPACE) == []
    if is_remounted:
        mounts.umount(mount)
        mount = mounts.mount(*ALWAYS_REFRESH)
    sandbox.tenant = tenant(CHANGED[change], *others)
    assert archive(mounts, mount / NAMESPACE) == [NAME]
    assert archived(mounts) == contents(sandbox.tenant)
    assert archive(mounts, mount / NAMESPACE) == []
    assert sandbox.count(Endpoint.PDF) == 5


@pytest.mark.promise(
    "Copies are read-only files, so a second plain `cp -r` onto them fails: use `rsync -a`, "
    "or `cp -ruf`, which replaces files that it cannot write to."
)
def test_a_second_plain_cp_fails_but_rsync_and_cp_ruf_work(
    sandbox: Sandbox, unprivileged_mounts: Mounts
) -> None:
    sandbox.tenant = tenant(invoice(1))
    mounts = unprivileged_mounts
    source = mounts.mount() / NAMESPACE
    for expected in (0, 1):
        argv = ("cp", "-r", "--no-target-directory", source, mounts.folder / "archive")
        ended = mounts.run(*argv)
        assert ended.code == expected
    assert "Permission denied" in ended.err
    assert by_rsync_a(mounts, source) == [file_name(invoice(1))]  # for the date
    assert by_rsync_a(mounts, source) == by_cp_ruf(mounts, source) == []
    assert archived(mounts) == contents(sandbox.tenant)


# Hidden invoices.


@pytest.mark.promise(
    "`--status paid` hides the invoices to which a listing has given another status."
)
def test_only_invoices_with_the_given_statuses_are_shown(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.tenant = tenant(draft(OLD), invoice(1), replace(invoice(2), status="OVERDUE"))

    def shown(*states: str) -> list[str]:
        options = [word for state in states for word in ("--status", state)]
        return run("ls", mounts.mount(*options) / NAMESPACE).good().lines

    assert shown() == [file_name(invoice(number)) for number in (1, 2, NUMBER)]
    assert shown("paid") == [file_name(invoice(1))]
    assert shown("paid", "overdue") == [file_name(invoice(number)) for number in (1, 2)]
    assert shown("refunded") == []


# What never changes.

READ_IN_HALVES = """
import os, sys
path = sys.argv[1]
handle = os.open(path, os.O_RDONLY)
size = os.fstat(handle).st_size
first = os.pread(handle, size // 2, 0)
print("half", flush=True)
sys.stdin.readline()
sys.stdout.buffer.write(first + os.pread(handle, size, size // 2))
"""


@pytest.mark.promise("An open file never changes.")
def test_an_open_file_never_changes(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.tenant = tenant(draft(OLD))
    path = mounts.mount(*ALWAYS_REFRESH) / NAMESPACE / NAME
    with started(sys.executable, "-I", "-c", READ_IN_HALVES, path) as reader:
        assert reader.line() == "half"
        (before,) = stat_of(path)
        sandbox.tenant = tenant(replace(FINAL, pdf=NEW + NEW))
        run("ls", path.parent).good()
        assert stat_of(path) == [before]
        assert run("cat", path).good().out == OLD
        reader.go_on()
        assert reader.end().good().out == OLD
    # The kernel reports the close with a delay.
    assert eventually(lambda: run("cat", path).good().out == NEW + NEW)


STAT_AND_READ = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
path = sys.argv[1]
shown = os.stat(path).st_size
with ThreadPoolExecutor(1) as threads:
    shown_to_another = threads.submit(os.stat, path).result().st_size
with open(path, "rb") as file:
    print(shown, shown_to_another, len(file.read()))
"""


@pytest.mark.promise(
    "With `--fetch on-stat`, a program that opens a draft within a second of its `stat` reads the "
    "version that the `stat` showed, even if the draft has expired or become final in between."
)
@pytest.mark.parametrize("options", [[], ["--allow-other"]], ids=["alone", "for others"])
def test_a_program_reads_the_draft_that_its_stat_has_shown(
    sandbox: Sandbox, mounts: Mounts, options: Sequence[str]
) -> None:
    """With `--allow-other` the kernel asks for attributes again before it opens the file."""
    numbers = count(1)

    def grow() -> bytes:
        """Return a longer PDF than before, and change the listing."""
        number = next(numbers)
        sandbox.tenant = tenant(draft(grow, amount=str(number)))
        return plain_pdf("draft", 1000 * number)

    sandbox.tenant = tenant(draft(grow))
    path = mounts.mount("--fetch=on-stat", *ALWAYS_REFRESH, *options) / NAMESPACE / NAME
    sizes = run(sys.executable, "-I", "-c", STAT_AND_READ, path).good().text.split()
    assert sizes == ["1000", "2000", "1000"]


@pytest.mark.promise("A listing that omits the status hides nothing that was shown.")
def test_a_listing_without_statuses_empties_no_folder(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    """The folder used to be empty without an error, and ``rsync --delete`` emptied the archive."""
    invoices = [replace(invoice(number), status="STATUS_PAID") for number in range(3)]
    odd = [OMITTED, None, "SOMETHING_NEW"]
    sandbox.tenant = tenant(*invoices)
    mount = mounts.mount("--status", "paid", "--list-ttl", "0s")
    archive = tmp_path / "archive"
    run("rsync", "-a", "--delete", f"{mount / NAMESPACE}/", archive).good()
    names = sorted(path.name for path in archive.iterdir())
    assert len(names) == 3

    changed = [
        replace(paid, fields={"status": status}) for paid, status in zip(invoices, odd, strict=True)
    ]
    sandbox.tenant = tenant(*changed)
    for current in (mount, None):
        if current is None:
            mounts.umount(mount)
            current = mounts.mount("--status", "paid", "--list-ttl", "0s")
        run("rsync", "-a", "--delete", f"{current / NAMESPACE}/", archive).good()
        assert sorted(path.name for path in archive.iterdir()) == names
