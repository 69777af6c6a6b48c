"""The command ``invoicefs verify``."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from invoicefs.cli.options import examples, print_json, print_lines, print_message
from invoicefs.cli.parameter_types import PATH, PATH_IN_MOUNT
from invoicefs.errors import UsageError, UserError

if TYPE_CHECKING:
    from invoicefs.cli.archive import Finding
    from invoicefs.cli.inventory import Inventory
    from invoicefs.cli.running_mounts import Place


@click.command(
    epilog=examples(
        "invoicefs verify ~/archive",
        "invoicefs verify --sums ~/archive/SHA256SUMS ~/archive ~/invoices",
    )
)
@click.argument("archive", metavar="ARCHIVE", type=PATH)
@click.argument("path", metavar="[PATH]", type=PATH_IN_MOUNT, required=False)
@click.option(
    "--fetch",
    "is_fetching",
    is_flag=True,
    help="Download the invoices that were not downloaded yet, and compare them, too.",
)
@click.option("--json", "is_json", is_flag=True, help="Print a JSON object with every file.")
@click.option(
    "--sums",
    "sums_file",
    type=PATH,
    metavar="FILE",
    help="Write the SHA-256 that each file of ARCHIVE should have to FILE, for sha256sum -c.",
)
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    archive: Path,
    path: Path | None,
    is_fetching: bool,
    is_json: bool,
    sums_file: Path | None,
) -> None:
    """Check whether ARCHIVE is a complete and unchanged copy of PATH.

    PATH is a mount, or a namespace or an invoice in it; it can be omitted if you have one mount.
    Each file is compared with what the mount downloaded; nothing is downloaded unless --fetch is
    given. Invoices of which the API has no PDF yet, and other files in ARCHIVE, are reported, but
    are no fault. Exits with status 1 if an invoice is missing, different, outdated, or could not be
    verified.
    """
    from invoicefs.cli.archive import sums
    from invoicefs.cli.text_files import write_text

    folder = _checked_archive(archive)
    if sums_file:
        _check_sums_file(sums_file, folder)
    place = _place(path)
    found = _inventory(place, is_fetching=is_fetching)
    findings, failures = _compare(folder, place, found)
    is_ok = not failures and not any(finding.is_fault for finding in findings)
    if is_json:
        _print_json(folder, place, findings, failures, is_ok=is_ok)
    else:
        _print_report(folder, place, findings)
    for failure in failures:
        print_message("invoicefs", failure)
    if sums_file and failures:
        raise UserError(f"{sums_file} was not written, because the comparison is not complete.")
    if sums_file:
        write_text(sums_file, sums(findings))
    ctx.exit(0 if is_ok else 1)


def _place(path: Path | None) -> "Place":
    """Return the place of a path, or the only mount."""
    from invoicefs.cli import running_mounts

    if path:
        return running_mounts.place_of(str(path))
    places = running_mounts.own_places()
    if len(places) > 1:
        raise UsageError("You have several mounts: say which one as PATH.")
    if not places:
        raise UserError("You have no mounts: mount the tenant whose invoices the archive has.")
    return places[0]


def _checked_archive(archive: Path) -> str:
    from invoicefs.cli import running_mounts

    path = str(archive.absolute())
    if running_mounts.is_in_mount(path):
        raise UsageError(f"{archive} is in a mount: give the copy first, then the mount.")
    try:
        os.lstat(path)
    except OSError as error:
        raise UserError(f"The archive {archive} cannot be read: {error.strerror}.") from error
    return path


def _check_sums_file(file: Path, archive: str) -> None:
    """Raise `UsageError` for a file of the archive other than `SUMS_NAME` at its top."""
    from invoicefs.cli.archive import SUMS_NAME

    path = os.path.realpath(file)
    inside = os.path.realpath(archive)
    if path.startswith(f"{inside}/") and path != f"{inside}/{SUMS_NAME}":
        raise UsageError(f"--sums: the only name for this file in the archive is {SUMS_NAME}.")


def _inventory(place: "Place", *, is_fetching: bool) -> "Inventory":
    """Return the invoices of a place, which are downloaded before if `is_fetching`."""
    from invoicefs.cli import running_mounts
    from invoicefs.cli.inventory import inventory

    respond = running_mounts.responder(place.mount)
    found = inventory(respond, place.mount.path, place.inside)
    # The mount downloads a draft again if its copy has expired.
    new = [entry.path for entry in found.entries if entry.is_draft or not entry.is_current]
    if is_fetching and new:
        _download(new, running_mounts.status_of(place.mount)["calls"]["parallel"])
        found = inventory(respond, place.mount.path, place.inside)
    return found


def _download(paths: Sequence[str], parallel: int) -> None:
    """Download invoices; the mount remembers why one failed."""
    from invoicefs.cli import bulk_fetch, running_mounts
    from invoicefs.cli.progress import with_bar

    download = bulk_fetch.downloader(running_mounts.open_error)
    for _ in with_bar(bulk_fetch.fetch(paths, parallel, download), len(paths)):
        pass


def _compare(
    archive: str, place: "Place", found: "Inventory"
) -> tuple[tuple["Finding", ...], tuple[str, ...]]:
    """Return the findings, by path, and what keeps the comparison from being complete."""
    from invoicefs.cli import running_mounts
    from invoicefs.cli.archive import compare, scan, scan_file
    from invoicefs.cli.progress import with_bar

    if [entry.inside for entry in found.entries] == [place.inside]:
        # PATH is an invoice: compare this file, or the one of this name in this folder.
        if not os.path.isdir(archive):
            archive, name = os.path.split(archive)
        else:
            name = os.path.basename(place.inside)
        expected, scanned = {name: found.entries[0]}, scan_file(archive, name)
    else:
        expected = {os.path.relpath(entry.inside, place.inside): entry for entry in found.entries}
        scanned = scan(archive, running_mounts.mount_points())
    threads = len(os.sched_getaffinity(0))  # SHA-256 is computed without the interpreter's lock
    count = len(expected.keys() | scanned.files.keys())
    is_complete = not found.failures
    findings = with_bar(
        compare(archive, scanned, expected, threads, is_complete=is_complete), count
    )
    by_path = tuple(sorted(findings, key=lambda finding: finding.path))
    failures = (*found.failures, *scanned.failures)
    if not expected:
        failures = (*failures, f"{place.path} shows no invoices, so nothing could be compared.")
    return by_path, failures


def _print_report(archive: str, place: "Place", findings: Sequence["Finding"]) -> None:
    from invoicefs.cli.archive import State

    for finding in findings:
        if finding.state is not State.RIGHT:
            words = f" ({finding.words})" if finding.words else ""
            print_lines(f"{finding.state}: {finding.path}{words}")
    counts = Counter(finding.state for finding in findings)
    facts = [f"{counts[state]} {state}" for state in State if counts[state]]
    print_lines(f"{archive}: {', '.join(facts) or 'no invoices'}.")
    if counts[State.MISSING] and counts[State.EXTRA] and not counts[State.RIGHT]:
        print_lines(
            f"No file has the path of an invoice in {place.path}: the archive may be that of "
            "another tenant or namespace, or another folder of it is meant."
        )


def _print_json(
    archive: str,
    place: "Place",
    findings: Iterable["Finding"],
    failures: Sequence[str],
    *,
    is_ok: bool,
) -> None:
    from invoicefs.cli.archive import State

    counts = Counter(finding.state for finding in findings)
    report: Mapping[str, object] = {
        "archive": archive,
        "path": place.path,
        "ok": is_ok,
        "counts": {state.value: counts[state] for state in State},
        "failures": failures,
        "files": [
            {
                "path": finding.path,
                "state": finding.state.value,
                "fault": finding.is_fault,
                "words": finding.words or None,
                "sha256": finding.expected,
            }
            for finding in findings
        ],
    }
    print_json(report)
