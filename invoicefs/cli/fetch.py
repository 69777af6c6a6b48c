"""The command ``invoicefs fetch``."""

from pathlib import Path

import click

from invoicefs.cli.options import NO_CACHE_DIR, examples, print_lines, print_message
from invoicefs.cli.parameter_types import PATH_IN_MOUNT

_INTERRUPTED = 130  # the exit status that shells report for SIGINT


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
@NO_CACHE_DIR
@click.pass_context
def fetch(ctx: click.Context, /, paths: tuple[Path, ...], is_again: bool) -> None:
    """Download all invoices below each PATH now, several at the same time.

    Invoices that are already cached are not downloaded unless --again is given. Exits with status 1
    if a download failed; run the same command again to continue.
    """
    from invoicefs.cli import bulk_fetch, running_mounts
    from invoicefs.cli.progress import with_progress

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
        for outcome in with_progress(outcomes, len(wanted)):
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
