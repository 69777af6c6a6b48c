"""The command ``invoicefs fetch``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invoicefs.cli.options import NO_CACHE_DIR, examples
from invoicefs.cli.output import INTERRUPTED, print_json, print_lines, print_message
from invoicefs.cli.parameter_types import PATH_IN_MOUNT

if TYPE_CHECKING:
    from collections.abc import Generator

    from invoicefs.cli.bulk_fetch import Fetched


@click.command(
    epilog=examples(
        "invoicefs fetch ~/invoices",
        "invoicefs fetch --again ~/invoices/system/invoice-2026-08.pdf",
    )
)
@click.argument("paths", metavar="PATH...", type=PATH_IN_MOUNT, nargs=-1, required=True)
@click.option(
    "--again",
    "is_again",
    is_flag=True,
    help="Also download and replace invoices that are already cached, final or not.",
)
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print only failures.")
@click.option("--json", "is_json", is_flag=True, help="Print only the result, as a JSON object.")
@NO_CACHE_DIR
@click.pass_context
def fetch(
    ctx: click.Context,
    /,
    paths: tuple[Path, ...],
    is_again: bool,
    is_quiet: bool,
    is_json: bool,
) -> None:
    """Download all invoices below each PATH now.

    Several are downloaded at the same time; those that are already cached are not, unless --again
    is given. Exits with status 1 if a download failed; run the same command again to continue.
    """
    from invoicefs.cli import bulk_fetch, running_mounts

    places = [running_mounts.place_of(str(path)) for path in paths]
    mounts = {place.mount for place in places}

    def evicted() -> frozenset[str]:
        return frozenset().union(*map(running_mounts.evicted, mounts))

    parallel = min(running_mounts.status_of(mount)["calls"]["parallel"] for mount in mounts)
    found = bulk_fetch.find([place.path for place in places], evicted, running_mounts.open_error)
    wanted = found.files if is_again else found.missing
    download = (
        bulk_fetch.replacing_downloader(running_mounts.download_again)
        if is_again
        else bulk_fetch.downloader(running_mounts.open_error)
    )
    outcomes = bulk_fetch.fetch(wanted, parallel, download)
    ended, is_interrupted = _ended(outcomes, None if is_quiet or is_json else len(wanted))
    result = _Result(
        wanted=len(wanted),
        cached=len(found.files) - len(wanted),
        downloaded=tuple(outcome for outcome in ended if not outcome.failure),
        failures=(*found.failures, *(outcome for outcome in ended if outcome.failure)),
        lost=0 if is_interrupted else len(evicted().intersection(wanted)),
        is_interrupted=is_interrupted,
    )
    if is_json:
        print_json(result.as_json())
    else:
        _print(result, is_quiet=is_quiet)
    ctx.exit(INTERRUPTED if is_interrupted else 1 if result.failures else 0)


def _ended(
    outcomes: "Generator[Fetched]", progress_count: int | None
) -> "tuple[list[Fetched], bool]":
    """Return the outcomes until the end or Ctrl-C, and whether it was Ctrl-C.

    Shows the progress to `progress_count`, or none.
    """
    from invoicefs.cli.progress import with_progress

    ended: list[Fetched] = []
    try:
        shown = outcomes if progress_count is None else with_progress(outcomes, progress_count)
        for outcome in shown:
            ended.append(outcome)
    except KeyboardInterrupt:
        outcomes.close()
        return ended, True
    return ended, False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """What was downloaded, and what failed.

    `wanted`, `cached` and `lost` are the numbers of invoices that were to be downloaded, that had
    been cached before, and that did not stay in the cache.
    """

    wanted: int
    cached: int
    downloaded: "tuple[Fetched, ...]"
    failures: "tuple[Fetched, ...]"
    lost: int
    is_interrupted: bool

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {
            "downloaded": len(self.downloaded),
            "downloaded_bytes": sum(outcome.size_bytes for outcome in self.downloaded),
            "cached": self.cached,
            "evicted": self.lost,
            "interrupted": self.is_interrupted,
            "failures": [
                {"path": failed.path, "errno": failed.errno_name, "words": failed.failure}
                for failed in self.failures
            ],
        }


def _print(result: _Result, *, is_quiet: bool) -> None:
    downloaded = len(result.downloaded)
    if result.is_interrupted:
        if not is_quiet:
            print_lines("")
        words = f"Interrupted: {downloaded} of {result.wanted} invoices were downloaded."
        print_message("invoicefs", words)
        return
    for failed in result.failures:
        print_lines(f"{failed.path}: {failed.failure}", err=True)
    if not is_quiet:
        failed_count = len(result.failures)
        print_lines(
            f"{downloaded} downloaded, {result.cached} already cached, {failed_count} failed."
        )
    if result.lost:
        reason = "it is too small (--cache-size), or its disk is full"
        plural = "" if result.lost == 1 else "s"
        words = f"{result.lost} invoice{plural} did not stay in the cache: {reason}."
        print_message("invoicefs", words)
