"""The commands that ask mounts: what they do, to look again, and to download."""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invoicefs.cli.options import NO_CACHE_DIR, PATH, examples, say, tell
from invoicefs.settings import rounded_size

if TYPE_CHECKING:
    from invoicefs.cli.bulk_fetch import Fetched
    from invoicefs.cli.running_mounts import Status

_INTERRUPTED = 130  # what shells have for a SIGINT


@click.command(epilog=examples("invoicefs status", "invoicefs status --json ~/invoices"))
@click.argument("mount_point", metavar="[MOUNTPOINT]", type=PATH, required=False)
@click.option("--json", "is_json", is_flag=True, help="Print JSON, an array of all mounts.")
@NO_CACHE_DIR
@click.pass_context
def status(ctx: click.Context, /, mount_point: Path | None, is_json: bool) -> None:
    """Show what a mount does, or all of yours: calls, downloads, and what went wrong lately.

    Asks the mounts themselves; no API call is made. Ends with 1 where one does not answer.
    """
    import json

    from invoicefs.cli.running_mounts import all_statuses, place_of, status_of
    from invoicefs.cli.status_screen import screen

    failures: tuple[str, ...] = ()
    if mount_point:
        found: tuple[Status, ...] = (status_of(place_of(str(mount_point)).mount),)
    else:
        found, failures = all_statuses()
    if is_json:
        tell(*json.dumps(found, indent=2).split("\n"))
    elif found or not failures:
        for number, lines in enumerate(map(screen, found)):
            tell(*(("",) if number else ()), *lines)
        if not found:
            tell("You have mounted nothing.")
    _end_with(failures, ctx)


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
    help="Download also what the mount has already, final or not, in place of what it has.",
)
@NO_CACHE_DIR
@click.pass_context
def fetch(ctx: click.Context, /, paths: tuple[Path, ...], is_again: bool) -> None:
    """Download all invoices below PATH... now, several at one time.

    What the mount has already costs no call, unless --again is given. Ends with 1 where something
    could not be had; the same command again goes on from there.
    """
    from invoicefs.cli import bulk_fetch as fetching
    from invoicefs.cli import running_mounts as questions

    places = [questions.place_of(str(path)) for path in paths]
    mounts = {place.mount for place in places}

    def dropped() -> frozenset[str]:
        return frozenset().union(*map(questions.dropped, mounts))

    parallel = min(questions.status_of(mount)["calls"]["parallel"] for mount in mounts)
    found = fetching.find([place.path for place in places], dropped, questions.why)
    wanted = found.files if is_again else found.missing
    bring = (
        fetching.replacing(questions.download_again)
        if is_again
        else fetching.opening(questions.why)
    )
    outcomes = fetching.fetch(wanted, parallel, bring)
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
        tell("")
        say("invoicefs", f"Interrupted: {fetched_count} of {len(wanted)} were fetched.")
        ctx.exit(_INTERRUPTED)
    for outcome in failures:
        tell(f"{outcome.path}: {outcome.failure}", err=True)
    present_count = len(found.files) - len(wanted)
    tell(f"{fetched_count} fetched, {present_count} were there, {len(failures)} failed.")
    if lost := len(dropped().intersection(wanted)):
        why_lost = "it is too small (--cache-size), or its disk is full"
        say("invoicefs", f"{lost} did not stay in the store: {why_lost}.")
    ctx.exit(1 if failures else 0)


def _with_progress(fetched: "Iterator[Fetched]", count: int) -> "Iterator[Fetched]":
    """The same, with a bar on a terminal and a line for each tenth elsewhere."""
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
                tell(f"{number} of {count}, {so_far()}")
            yield outcome
        return
    with click.progressbar(fetched, count, show_pos=True, **_bar_parts(count, so_far)) as bar:
        for outcome in bar:
            size_bytes += outcome.size_bytes
            yield outcome


def _bar_parts(count: int, so_far: Any) -> dict[str, Any]:
    """What a bar shows beside itself, so that it keeps to one line of the terminal."""
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


_SHORTEST_BAR = 10


@click.command(epilog=examples("invoicefs refresh", "invoicefs refresh ~/invoices/system"))
@click.argument("path", metavar="[PATH]", type=PATH, required=False)
@NO_CACHE_DIR
@click.pass_context
def refresh(ctx: click.Context, /, path: Path | None) -> None:
    """Ask the API for the lists again now, and for unfinished invoices when they are opened next.

    For the namespace that PATH is in, or for all of a mount that have been listed; without PATH for
    all your mounts. Ends with 1 where that fails.
    """
    from invoicefs.cli import running_mounts as questions

    if path:
        questions.refresh(questions.place_of(str(path)))
    else:
        _end_with(questions.refresh_all(), ctx)


def _end_with(failures: tuple[str, ...], ctx: click.Context) -> None:
    """End with 1 and these sentences, if there are any."""
    for failure in failures:
        say("invoicefs", failure)
    ctx.exit(1 if failures else 0)
