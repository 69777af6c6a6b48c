"""The command ``invoicefs verify``."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from invoicefs.cli.options import examples
from invoicefs.cli.output import INTERRUPTED, counted, print_json, print_lines, print_message
from invoicefs.cli.parameter_types import PATH, PATH_IN_MOUNT
from invoicefs.errors import UsageError, UserError

if TYPE_CHECKING:
    from invoicefs.cli.archive_files import Scan
    from invoicefs.cli.archive_report import Report
    from invoicefs.cli.entries import Entries
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
    help="First download the invoices that have not been downloaded yet.",
)
@click.option("--json", "is_json", is_flag=True, help="Print a JSON object with every file.")
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print only what is a fault.")
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
    is_quiet: bool,
    sums_file: Path | None,
) -> None:
    """Check whether ARCHIVE is a complete and unchanged copy of PATH.

    PATH is a mount, or a namespace or an invoice in it; it can be omitted if you have one mount.
    Each file is compared with what the mount has downloaded; nothing is downloaded unless --fetch
    is given. Invoices that have no PDF because they are unpaid, and other files in ARCHIVE, are
    only reported, as are namespaces that the credential may not list and that ARCHIVE has no file
    of. Exits with status 1 if an invoice is missing, different, outdated, or could not be verified,
    or if something else could not be listed.
    """
    folder = _checked_archive(archive)
    if sums_file:
        _check_sums_file(sums_file, folder)
    place = _place(path)
    try:
        report = _compare(folder, place, _entries(place, is_fetching=is_fetching))
    except KeyboardInterrupt:
        print_message("invoicefs", "Interrupted: the archive was not compared.")
        ctx.exit(INTERRUPTED)
    if is_json:
        print_json(report.as_json())
    else:
        print_lines(*(report.fault_lines() if is_quiet else report.lines()))
    for words in (*report.failures, *(() if is_quiet else report.remarks)):
        print_message("invoicefs", words)
    if sums_file:
        _write_sums(sums_file, report)
    ctx.exit(0 if report.is_ok else 1)


def _place(path: Path | None) -> "Place":
    """Return the place of a path, or the only mount."""
    from invoicefs.cli import running_mounts

    if path:
        return running_mounts.place_of(str(path))
    places = running_mounts.own_places()
    if len(places) > 1:
        raise UsageError("You have several mounts: give one of them as PATH.")
    if not places:
        raise UserError("You have no mounts: mount the tenant that the archive was copied from.")
    return places[0]


def _checked_archive(archive: Path) -> str:
    from invoicefs.cli import running_mounts

    path = str(archive.absolute())
    if running_mounts.find_place(path):
        raise UsageError(f"{archive} is in a mount: give the copy first, then the mount.")
    try:
        os.lstat(path)
    except OSError as error:
        raise UserError(f"The archive {archive} cannot be read: {error.strerror}.") from error
    return path


def _check_sums_file(file: Path, archive: str) -> None:
    """Raise `UsageError` for a file of the archive other than `SUMS_NAME` at its top."""
    from invoicefs.cli import running_mounts
    from invoicefs.cli.archive_files import SUMS_NAME

    path, inside = map(running_mounts.real_path, (str(file), archive))
    if not os.path.isdir(inside):
        inside = os.path.dirname(inside)
    if path.startswith(f"{inside.rstrip('/')}/") and path != os.path.join(inside, SUMS_NAME):
        raise UsageError(f"--sums: in the archive, this file can only be {archive}/{SUMS_NAME}.")


def _write_sums(file: Path, report: "Report") -> None:
    from invoicefs.cli.sum_files import read_sums, sum_lines
    from invoicefs.cli.text_files import write_text

    sums = report.sums()
    if report.failures:
        raise UserError(f"{file} was not written, because the comparison is incomplete.")
    if report.is_of_one_invoice:
        raise UserError(f"{file} was not written, because PATH is a single invoice.")
    if unknown_count := report.unknown_count:
        raise UserError(
            f"{file} was not written, because the SHA-256 of {counted(unknown_count, 'invoice')} "
            "in the archive is not known: add --fetch."
        )
    if lost_count := len(read_sums(file).keys() - sums.keys()):
        raise UserError(
            f"{file} was not written, because it has {counted(lost_count, 'file')} that "
            f"{report.path} does not show: remove it to write it without them."
        )
    write_text(file, sum_lines(sums))


def _entries(place: "Place", *, is_fetching: bool) -> "Entries":
    """Return the invoices of a place; if `is_fetching`, after downloading them."""
    from invoicefs.cli import running_mounts
    from invoicefs.cli.entries import list_entries

    respond = running_mounts.responder(place.mount)
    found = list_entries(respond, place.mount.path, place.inside)
    # The mount downloads a draft again if its copy has expired.
    new = [entry.path for entry in found.entries if entry.is_draft or not entry.is_current]
    if not (is_fetching and new):
        return found
    errors = _download(new, running_mounts.status_of(place.mount)["calls"]["parallel"])
    found = list_entries(respond, place.mount.path, place.inside)
    entries = (replace(entry, fetch_error=errors.get(entry.path)) for entry in found.entries)
    return replace(found, entries=tuple(entries))


def _download(paths: Sequence[str], parallel: int) -> Mapping[str, str]:
    """Download invoices, and return why some could not be downloaded."""
    from invoicefs.cli import bulk_fetch, running_mounts
    from invoicefs.cli.progress import with_bar

    download = bulk_fetch.downloader(running_mounts.open_error)
    outcomes = with_bar(bulk_fetch.fetch(paths, parallel, download), len(paths))
    return {outcome.path: outcome.failure for outcome in outcomes if outcome.failure}


def _compare(archive: str, place: "Place", found: "Entries") -> "Report":
    """Compare the archive with what was found; raises `UserError` if it cannot be read."""
    from invoicefs.cli import running_mounts
    from invoicefs.cli.archive import compare
    from invoicefs.cli.archive_files import SUMS_NAME, scan, scan_file
    from invoicefs.cli.archive_report import Report
    from invoicefs.cli.progress import with_bar
    from invoicefs.cli.sum_files import read_sums

    if not found.entries:
        nothing = f"{place.path} shows no invoices, so nothing could be compared."
        words = (*found.failures, *found.forbidden.values())
        return Report(archive, place.path, (), words or (nothing,))
    is_of_one_invoice = [entry.inside for entry in found.entries] == [place.inside]
    if is_of_one_invoice:
        # Compare this file, or the one of this name in this folder.
        if os.path.isdir(archive):
            name = os.path.basename(place.inside)
        else:
            archive, name = os.path.split(archive)
        expected, scanned = {name: found.entries[0]}, scan_file(archive, name)
    else:
        expected = {os.path.relpath(entry.inside, place.inside): entry for entry in found.entries}
        scanned = scan(archive, running_mounts.devices())
    if "" in scanned.unread:
        raise UserError(scanned.unread[""])
    archived = {*scanned.files, *read_sums(Path(archive) / SUMS_NAME)}
    failures, remarks = _failures_and_remarks(found, place, scanned, archived)
    findings = compare(
        archive,
        scanned,
        expected,
        threads=len(os.sched_getaffinity(0)),  # SHA-256 is computed without the interpreter's lock
        may_be_invoice=lambda path: found.may_have_more(f"{place.inside.rstrip('/')}/{path}"),
    )
    with_progress = with_bar(findings, len(expected.keys() | scanned.files.keys()))
    return Report(
        archive,
        place.path,
        tuple(sorted(with_progress, key=lambda finding: finding.path)),
        failures,
        remarks,
        is_of_one_invoice,
    )


def _failures_and_remarks(
    found: "Entries", place: "Place", scanned: "Scan", archived: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what keeps the comparison from being complete, and what does not concern the archive.

    A directory that was never listed with this credential is a failure if the archive has files of
    it; `archived` are the paths of files that it has or had.
    """
    directories = {f"{place.inside.rstrip('/')}/{path}".split("/")[1] for path in archived}
    failures, remarks = [*found.failures, *scanned.unread.values()], list[str]()
    for directory, words in found.forbidden.items():
        (failures if directory in directories else remarks).append(words)
    return tuple(failures), tuple(remarks)
