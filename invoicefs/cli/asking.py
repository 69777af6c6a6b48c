"""The commands that ask mounts: what they do, to look again, and to download."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from invoicefs.cli.options import CACHE_DIR, PATH, examples, say
from invoicefs.config import rounded_size

if TYPE_CHECKING:
    from invoicefs.fetching import Fetched
    from invoicefs.questions import Status


@click.command(epilog=examples("invoicefs status", "invoicefs status --json ~/invoices"))
@click.argument("mount_point", metavar="[MOUNTPOINT]", type=PATH, required=False)
@click.option("--json", "is_json", is_flag=True, help="Print JSON, an array of all mounts.")
@CACHE_DIR
@click.pass_context
def status(
    ctx: click.Context, /, mount_point: Path | None, is_json: bool, cache_dir: Path | None
) -> None:
    """Show what a mount does, or all of yours: calls, downloads, and what went wrong lately.

    Asks the mounts themselves; no API call is made. Ends with 1 where one does not answer.
    """
    import json

    from invoicefs.questions import all_statuses, status_of
    from invoicefs.status_screen import screen

    failures: tuple[str, ...] = ()
    if mount_point:
        found: tuple[Status, ...] = (status_of(str(mount_point), cache_dir),)
    else:
        found, failures = all_statuses(cache_dir)
    if is_json:
        click.echo(json.dumps(found, indent=2))
    elif found or not failures:
        click.echo("\n\n".join(map(screen, found)) or "You have mounted nothing.")
    _end_with(failures, ctx)


@click.command(
    epilog=examples(
        "invoicefs fetch ~/invoices", "invoicefs fetch ~/invoices/system ~/invoices/shared"
    )
)
@click.argument("paths", metavar="PATH...", type=PATH, nargs=-1, required=True)
@CACHE_DIR
@click.pass_context
def fetch(ctx: click.Context, /, paths: tuple[Path, ...], cache_dir: Path | None) -> None:
    """Download all invoices below PATH... now, several at one time.

    What the mount has already costs no call. Ends with 1 where something could not be had; the same
    command again goes on from there.
    """
    from invoicefs import fetching, questions

    places = [questions.place_of(str(path)) for path in paths]
    mount_points = {place.mount_point for place in places}

    def dropped() -> frozenset[str]:
        return frozenset().union(*(questions.dropped(each, cache_dir) for each in mount_points))

    def why(path: str) -> str | None:
        return questions.why(path, cache_dir)

    statuses = [questions.status_of(each, cache_dir) for each in mount_points]
    parallel = min(status["calls"]["parallel"] for status in statuses)
    found = fetching.find([place.path for place in places], dropped, why)
    failures = list(found.failures)
    fetched = fetching.fetch(found.missing, parallel, why)
    failures += [each for each in _with_progress(fetched, len(found.missing)) if each.failure]
    for each in failures:
        click.echo(f"{each.path}: {each.failure}", err=True)
    count = len(found.missing) + len(found.failures) - len(failures)
    click.echo(f"{count} fetched, {found.present_count} were there, {len(failures)} failed.")
    if lost := len(dropped().intersection(found.missing)):
        why_lost = "it is too small (--cache-size), or its disk is full"
        say("invoicefs", f"{lost} did not stay in the store: {why_lost}.")
    ctx.exit(1 if failures else 0)


def _with_progress(fetched: "Iterator[Fetched]", count: int) -> "Iterator[Fetched]":
    """The same, with a bar on a terminal and a line for each tenth elsewhere."""
    size_bytes, began_s = 0, time.monotonic()

    def so_far(_: object) -> str:
        per_second = size_bytes / max(time.monotonic() - began_s, 0.001)
        return f"{rounded_size(size_bytes)}, {rounded_size(round(per_second))}/s"

    if count == 0:
        return
    if not sys.stdout.isatty():
        for number, each in enumerate(fetched, start=1):
            size_bytes += each.size_bytes
            if number * 10 // count > (number - 1) * 10 // count:
                click.echo(f"{number} of {count}, {so_far(None)}")
            yield each
        return
    with click.progressbar(fetched, count, item_show_func=so_far, show_pos=True) as bar:
        for each in bar:
            size_bytes += each.size_bytes
            yield each


@click.command(epilog=examples("invoicefs refresh", "invoicefs refresh ~/invoices/system"))
@click.argument("path", metavar="[PATH]", type=PATH, required=False)
@CACHE_DIR
@click.pass_context
def refresh(ctx: click.Context, /, path: Path | None, cache_dir: Path | None) -> None:
    """Ask the API for the lists again now, and for unfinished invoices when they are opened next.

    For the namespace that PATH is in, or for all of a mount that have been listed; without PATH for
    all your mounts. Ends with 1 where that fails.
    """
    from invoicefs import questions

    if path:
        questions.refresh(str(path), cache_dir)
    else:
        _end_with(questions.refresh_all(cache_dir), ctx)


def _end_with(failures: tuple[str, ...], ctx: click.Context) -> None:
    """End with 1 and these sentences, if there are any."""
    for failure in failures:
        say("invoicefs", failure)
    ctx.exit(1 if failures else 0)
