"""The command ``invoicefs fetch``."""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invoicefs.cli.options import NO_CACHE_DIR, PATH, examples, print_lines, print_message
from invoicefs.units import rounded_size

if TYPE_CHECKING:
    from invoicefs.cli.bulk_fetch import Fetched

_INTERRUPTED = 130  # the exit status that shells report for SIGINT
_SHORTEST_BAR = 10


@click.command(
    epilog=examples(
        "invoicefs fetch ~/invoices",
        "invoicefs fetch --again ~/invoices/system/invoice-2026-08.pdf",
    )
)
@click.argument("paths", metavar="PATH...", type=PATH, nargs=-1, required=True)
@click.option(
    "--again",
    "is_again",
    is_flag=True,
    help="Also download and replace invoices that are already cached, final or not.",
)
@NO_CACHE_DIR
@click.pass_context
def fetch(ctx: click.Context, /, paths: tuple[Path, ...], is_again: bool) -> None:
    """Download all invoices below each PATH now, several at the same time.

    Invoices that are already cached are not downloaded unless --again is given. Exits with status 1
    if a download failed; run the same command again to continue.
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
    failures = list(found.failures)
    fetched_count = 0
    try:
        for outcome in _with_progress(outcomes, len(wanted)):
            if outcome.failure:
                failures.append(outcome)
            else:
                fetched_count += 1
    except KeyboardInterrupt:
        outcomes.close()
        print_lines("")
        print_message(
            "invoicefs", f"Interrupted: {fetched_count} of {len(wanted)} invoices were downloaded."
        )
        ctx.exit(_INTERRUPTED)
    for outcome in failures:
        print_lines(f"{outcome.path}: {outcome.failure}", err=True)
    present_count = len(found.files) - len(wanted)
    print_lines(
        f"{fetched_count} downloaded, {present_count} already cached, {len(failures)} failed."
    )
    if lost := len(evicted().intersection(wanted)):
        reason = "it is too small (--cache-size), or its disk is full"
        print_message("invoicefs", f"{lost} of them did not stay in the cache: {reason}.")
    ctx.exit(1 if failures else 0)


def _with_progress(fetched: "Iterator[Fetched]", count: int) -> "Iterator[Fetched]":
    """Yield the outcomes; show a progress bar on a terminal, or else a line for each tenth."""
    size_bytes, began_s = 0, time.monotonic()

    def so_far(_: object = None) -> str:
        per_second = size_bytes / max(time.monotonic() - began_s, 0.001)
        return f"{rounded_size(size_bytes)}, {rounded_size(round(per_second))}/s"

    if count == 0:
        return
    if not sys.stdout.isatty():
        for number, outcome in enumerate(fetched, start=1):
            size_bytes += outcome.size_bytes
            if number * 10 // count > (number - 1) * 10 // count:
                print_lines(f"{number} of {count}, {so_far()}")
            yield outcome
        return
    with click.progressbar(fetched, count, show_pos=True, **_bar_parts(count, so_far)) as bar:
        for outcome in bar:
            size_bytes += outcome.size_bytes
            yield outcome


def _bar_parts(count: int, so_far: Any) -> dict[str, Any]:
    """Return the parts of a progress bar that fit on one line of the terminal."""
    columns = shutil.get_terminal_size().columns
    left = columns - 1 - len("  []") - len(f"  {count}/{count}")
    parts: dict[str, Any] = {"item_show_func": None, "show_eta": False, "width": max(left, 1)}
    for name, value, width in (
        ("item_show_func", so_far, len("  1023.9 MiB, 1023.9 MiB/s")),
        ("show_eta", True, len("  99d 23:59:59")),
    ):
        if left - width >= _SHORTEST_BAR:
            left -= width
            parts |= {name: value, "width": left}
    return parts
