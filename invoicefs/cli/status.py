"""The command ``invoicefs status``."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from invoicefs.cli.options import NO_CACHE_DIR, examples, exit_with, print_json, print_lines
from invoicefs.cli.parameter_types import MOUNT_POINT

if TYPE_CHECKING:
    from invoicefs.cli.running_mounts import Status


@click.command(epilog=examples("invoicefs status", "invoicefs status --json ~/invoices"))
@click.argument("mount_point", metavar="[MOUNTPOINT]", type=MOUNT_POINT, required=False)
@click.option("--json", "is_json", is_flag=True, help="Print a JSON array, one object per mount.")
@NO_CACHE_DIR
@click.pass_context
def status(ctx: click.Context, /, mount_point: Path | None, is_json: bool) -> None:
    """Show what a mount, or each of your mounts, is doing: requests, downloads, recent failures.

    Makes no API request. Exits with status 1 if a mount does not respond.
    """
    from invoicefs.cli.running_mounts import all_statuses, place_of, status_of
    from invoicefs.cli.status_screen import screen

    failures: tuple[str, ...] = ()
    if mount_point:
        found: tuple[Status, ...] = (status_of(place_of(str(mount_point)).mount),)
    else:
        found, failures = all_statuses()
    if is_json:
        print_json(found)
    elif found or not failures:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for number, status_of_mount in enumerate(found):
            print_lines(*(("",) if number else ()), *screen(status_of_mount, columns))
        if not found:
            print_lines("You have no mounts.")
    exit_with(failures, ctx)
