"""The command ``invoicefs status``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from invoicefs.cli.options import NO_CACHE_DIR, PATH, end_with, examples, tell

if TYPE_CHECKING:
    from invoicefs.cli.running_mounts import Status


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
    end_with(failures, ctx)
