"""An archive, compared with the invoices of a mount: the state of each file."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.cli.archive import Finding, State, compare
from invoicefs.cli.archive_files import Scan, scan
from invoicefs.cli.archive_report import Report
from invoicefs.cli.entries import Entry
from invoicefs.cli.sum_files import read_sums, sum_lines
from tests.support.entries import entry

A, B = b"%PDF-1.4 the first one %%EOF", b"%PDF-1.4 another one %%EOF"


def states(archive: Path, *entries: Entry) -> dict[str, tuple[State, str]]:
    expected = {found.inside.removeprefix("/"): found for found in entries}
    findings = compare(
        str(archive), scan(str(archive), {}), expected, threads=2, may_be_invoice=never
    )
    return {finding.path: (finding.state, finding.words) for finding in findings}


def never(_: str) -> bool:
    return False


def compare_a(archive: Path, scanned: Scan) -> Iterator[Finding]:
    """Compare the invoice ``a``."""
    expected = {"system/a.pdf": BOTH[0]}
    return compare(str(archive), scanned, expected, threads=1, may_be_invoice=never)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of the invoices ``a`` and ``b``."""
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "a.pdf").write_bytes(A)
    (tmp_path / "system" / "b.pdf").write_bytes(B)
    return tmp_path


BOTH = entry("a", A), entry("b", B)
RIGHT = (State.RIGHT, "")


def test_a_true_copy_is_right(archive: Path) -> None:
    assert states(archive, *BOTH) == {"system/a.pdf": RIGHT, "system/b.pdf": RIGHT}


def with_a_bit_flipped(folder: Path) -> None:
    (folder / "a.pdf").write_bytes(bytes([A[0] ^ 1]) + A[1:])


def cut_short(folder: Path) -> None:
    (folder / "a.pdf").write_bytes(A[:-1])


def emptied(folder: Path) -> None:
    (folder / "a.pdf").write_bytes(b"")


@pytest.mark.parametrize("damage", [with_a_bit_flipped, cut_short, emptied])
def test_a_damaged_copy_is_different(archive: Path, damage: Callable[[Path], None]) -> None:
    damage(archive / "system")

    assert states(archive, *BOTH) == {
        "system/a.pdf": (State.DIFFERENT, ""),
        "system/b.pdf": RIGHT,
    }


def test_swapped_copies_are_both_different(archive: Path) -> None:
    (archive / "system" / "a.pdf").write_bytes(B)
    (archive / "system" / "b.pdf").write_bytes(A)

    assert {state for state, _ in states(archive, *BOTH).values()} == {State.DIFFERENT}


def test_a_renamed_copy_is_missing_and_found_by_its_content(archive: Path) -> None:
    (archive / "system" / "a.pdf").rename(archive / "system" / "c.pdf")

    assert states(archive, *BOTH) == {
        "system/a.pdf": (State.MISSING, ""),
        "system/b.pdf": RIGHT,
        "system/c.pdf": (State.EXTRA, "it has the content of system/a.pdf"),
    }


def test_other_files_are_extra_but_not_the_sums_of_the_archive(archive: Path) -> None:
    (archive / "SHA256SUMS").touch()
    (archive / "system" / "notes.txt").touch()
    (archive / "empty folder").mkdir()

    found = states(archive, *BOTH)

    assert found.keys() - {"system/a.pdf", "system/b.pdf"} == {"system/notes.txt"}
    assert found["system/notes.txt"] == (State.EXTRA, "")


def a_link(path: Path) -> None:
    path.symlink_to("b.pdf")


def a_link_to_nowhere(path: Path) -> None:
    path.symlink_to("/nowhere")


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.bind(str(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (a_link, "it is a symbolic link"),
        (a_link_to_nowhere, "it is a symbolic link"),
        (a_pipe, "it is a pipe"),
        (a_socket, "it is a socket"),
    ],
)
def test_links_and_special_files_are_named_and_not_followed(
    archive: Path, make: Callable[[Path], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(archive)  # the path of a socket is short
    (archive / "system" / "a.pdf").unlink()
    make(Path("system/a.pdf"))
    make(Path("system/x"))

    found = states(archive, *BOTH)

    assert found["system/a.pdf"] == (State.DIFFERENT, words)
    assert found["system/x"] == (State.EXTRA, words)


def test_a_linked_folder_is_not_followed(archive: Path) -> None:
    (archive / "system").rename(archive / "elsewhere")
    (archive / "system").symlink_to("elsewhere")

    found = states(archive, *BOTH)

    assert found["system/a.pdf"][0] is State.MISSING
    assert found["system"] == (State.EXTRA, "it is a symbolic link")


def test_a_folder_in_the_place_of_an_invoice_is_missing(archive: Path) -> None:
    (archive / "system" / "a.pdf").unlink()
    (archive / "system" / "a.pdf").mkdir()

    assert states(archive, *BOTH)["system/a.pdf"] == (State.MISSING, "it is a folder")


CHANGED = "the invoice has changed since"


@pytest.mark.parametrize(
    ("known", "state", "words"),
    [
        (entry("a", A, is_current=False), State.OUTDATED, CHANGED),
        (entry("a", B, earlier=(BOTH[0].sha256,)), State.OUTDATED, CHANGED),
        (
            entry("a", B, is_current=False),
            State.NOT_VERIFIED,
            "the invoice has changed since it was last downloaded",
        ),
        (entry("a"), State.NOT_VERIFIED, "it has not been downloaded through this mount"),
        (
            entry("a", A, is_current=False, is_available=False, status="issued"),
            State.NOT_AVAILABLE,
            "the API has no PDF of it, its status is issued; the archive has an earlier version",
        ),
    ],
)
def test_a_copy_of_an_earlier_version_is_not_different(
    archive: Path, known: Entry, state: State, words: str
) -> None:
    assert states(archive, known)["system/a.pdf"] == (state, words)


@pytest.mark.parametrize(
    ("known", "state", "words"),
    [
        (entry("c", A), State.MISSING, ""),
        (
            entry("c", open_error="the server answered 403"),
            State.MISSING,
            "the server answered 403",
        ),
        (
            entry("c", is_available=False, status=""),
            State.NOT_AVAILABLE,
            "the API has no PDF of it, although its status is unknown",
        ),
    ],
)
def test_an_invoice_without_a_copy_is_missing_or_not_available(
    archive: Path, known: Entry, state: State, words: str
) -> None:
    assert states(archive, known)["system/c.pdf"] == (state, words)


def faults(archive: Path, *entries: Entry, may_have_more: bool = False) -> set[str]:
    expected = {found.inside.removeprefix("/"): found for found in entries}
    scanned = scan(str(archive), {})
    findings = compare(
        str(archive), scanned, expected, threads=2, may_be_invoice=lambda _: may_have_more
    )
    return {finding.path for finding in findings if finding.is_fault}


def test_only_what_is_right_extra_or_unpaid_is_no_fault(archive: Path) -> None:
    (archive / "extra.pdf").touch()
    unpaid = entry("u", is_available=False, status="issued")
    draft = entry("d", is_available=False, status="", is_draft=True, is_unpaid=True)
    assert faults(archive, *BOTH, unpaid, draft) == set()

    paid = entry("p", is_available=False)
    unknown = entry("x", is_available=False, status="")
    assert faults(archive, *BOTH, paid, unknown) == {"system/p.pdf", "system/x.pdf"}
    assert faults(archive, entry("a", B), entry("b"), entry("c", A)) == {
        f"system/{name}.pdf" for name in "abc"
    }


def test_a_file_that_no_list_has_is_not_extra_if_a_list_is_missing(archive: Path) -> None:
    assert faults(archive, BOTH[0], may_have_more=True) == {"system/b.pdf"}


def test_a_mount_in_an_archive_is_not_entered(archive: Path) -> None:
    scanned = scan(str(archive), {f"{archive}/system": 7})

    assert scanned.files == {}
    assert scanned.unread == {"system": f"{archive}/system is a mount of invoicefs, not a copy."}


def test_a_file_that_cannot_be_read_is_not_verified(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.read", fail)

    found = states(archive, *BOTH)

    words = "it cannot be read: Input/output error"
    assert set(found.values()) == {(State.NOT_VERIFIED, words)}


def test_a_file_that_changes_meanwhile_is_not_verified(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.read

    def read_and_change(fd: int, count: int) -> bytes:
        with open(archive / "system" / "a.pdf", "ab") as copy:
            copy.write(b"more")
        return read(fd, count)

    scanned = scan(str(archive), {})
    monkeypatch.setattr("os.read", read_and_change)
    changing = next(compare_a(archive, scanned))
    monkeypatch.undo()
    changed = next(compare_a(archive, scanned))

    words = "it changed while the archive was read"
    assert {(found.state, found.words) for found in (changing, changed)} == {
        (State.NOT_VERIFIED, words)
    }


def test_a_folder_that_is_exchanged_for_a_link_meanwhile_is_not_verified(archive: Path) -> None:
    scanned = scan(str(archive), {})
    (archive / "system").rename(archive / "before")
    (archive / "elsewhere").mkdir()
    (archive / "elsewhere" / "a.pdf").write_bytes(A)
    (archive / "system").symlink_to("elsewhere")

    finding = next(compare_a(archive, scanned))

    assert finding.state is State.NOT_VERIFIED


def test_a_file_that_is_exchanged_for_a_link_to_itself_meanwhile_is_not_verified(
    archive: Path,
) -> None:
    scanned = scan(str(archive), {})
    (archive / "system" / "a.pdf").rename(archive / "system" / "moved.pdf")
    (archive / "system" / "a.pdf").symlink_to("moved.pdf")

    finding = next(compare_a(archive, scanned))

    assert finding.state is State.NOT_VERIFIED


def test_what_is_in_an_unread_folder_is_not_missing(archive: Path) -> None:
    scanned = replace(scan(str(archive), {}), files={}, unread={"system": "no permission"})

    finding = next(compare_a(archive, scanned))

    assert (finding.state, finding.words) == (State.NOT_VERIFIED, "its folder cannot be read")


def test_an_invoice_in_a_mount_is_no_copy(archive: Path) -> None:
    device = (archive / "system" / "a.pdf").stat().st_dev

    scanned = scan(str(archive), {"/elsewhere": device})
    finding = next(compare_a(archive, scanned))

    assert finding.state is State.DIFFERENT


def test_an_invoice_that_could_not_be_fetched_is_not_verified(archive: Path) -> None:
    failed = replace(BOTH[0], fetch_error="the server answered 500")

    assert states(archive, failed)["system/a.pdf"] == (State.NOT_VERIFIED, failed.fetch_error)


def test_an_invoice_that_had_a_pdf_is_missing_although_the_api_has_none_now(
    archive: Path,
) -> None:
    refunded = entry("c", A, is_current=False, is_available=False, status="refunded")

    assert states(archive, refunded)["system/c.pdf"][0] is State.MISSING


def test_a_file_that_vanishes_meanwhile_is_missing(archive: Path) -> None:
    scanned = scan(str(archive), {})
    (archive / "system" / "a.pdf").unlink()

    finding, *_ = compare_a(archive, scanned)

    assert (finding.path, finding.state) == ("system/a.pdf", State.MISSING)


def test_a_folder_that_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    assert scan(str(tmp_path / "nowhere"), {}).unread == {
        "": f"{tmp_path}/nowhere cannot be read: No such file or directory."
    }


def test_sha256sum_accepts_the_sums_of_any_file_name(tmp_path: Path) -> None:
    names = ["plain.pdf", "back\\slash.pdf", "line\nfeed.pdf", "-dash.pdf", "ü \udcff.pdf"]
    for name in names:
        (tmp_path / name).write_bytes(A)
    known = [Finding(name, State.RIGHT, expected=BOTH[0].sha256) for name in names]
    findings = (*known, Finding("unknown.pdf", State.NOT_AVAILABLE))
    sums = Report(str(tmp_path), "/mnt", findings, ()).sums()
    text = "".join(sum_lines(sums))
    (tmp_path / "SHA256SUMS").write_text(text, encoding="utf-8", errors="surrogateescape")

    ended = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )

    assert (ended.returncode, ended.stdout.count(b": OK")) == (0, len(names))
    assert read_sums(tmp_path / "SHA256SUMS") == sums
