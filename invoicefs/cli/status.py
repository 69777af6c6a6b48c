"""The command ``invoicefs status``."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from invoicefs.cli.options import NO_CACHE_DIR, examples
from invoicefs.cli.output import exit_with, print_json, print_lines, print_message
from invoicefs.cli.parameter_types import MOUNT_POINT

if TYPE_CHECKING:
    from invoicefs.cli.running_mounts import Status


@click.command(
    epilog=examples(
        "invoicefs status", "invoicefs status --check", "invoicefs status --json ~/invoices"
    )
)
@click.argument("mount_point", metavar="[MOUNTPOINT]", type=MOUNT_POINT, required=False)
@click.option("--json", "is_json", is_flag=True, help="Print a JSON array, one object per mount.")
@click.option(
    "--check", "is_check", is_flag=True, help="For monitoring: print problems, and nothing else."
)
@NO_CACHE_DIR
@click.pass_context
def status(ctx: click.Context, /, mount_point: Path | None, is_json: bool, is_check: bool) -> None:
    """Show what your mounts are doing, and why something failed.

    Makes no API request. Exits with status 1 if a mount does not respond.

    With --check, prints one line for each mount that is dead or does not respond, whose credential
    the API refuses, whose last request failed, or whose cache cannot be used. Exits with status 1
    if there is such a mount, or if you have no mounts. With --check --json, prints an array with an
    object per problem.
    """
    from invoicefs.cli.running_mounts import (
        NO_MOUNTS,
        all_statuses,
        dead_mounts,
        dead_words,
        place_of,
        status_of,
    )
    from invoicefs.cli.status_screen import screen

    if is_check:
        _check(ctx, mount_point, is_json=is_json)
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
            print_lines(NO_MOUNTS)
    for mount in () if mount_point else dead_mounts():
        print_message("invoicefs", f"{mount.path}: {dead_words(mount)}")
    exit_with(failures, ctx)


def _check(ctx: click.Context, mount_point: Path | None, *, is_json: bool) -> NoReturn:
    """Print the problems of a mount, or of all mounts of this user, and exit."""
    from invoicefs.cli.health_check import check, your_mounts
    from invoicefs.cli.running_mounts import place_of

    mounts = (place_of(str(mount_point)).mount,) if mount_point else your_mounts()
    found = [problems for problems in check(mounts) if problems]
    if is_json:
        print_json([problem._asdict() for problems in found for problem in problems])
        ctx.exit(1 if found else 0)
    exit_with(
        tuple(
            f"{problems[0].mount_point}: {'; '.join(problem.words for problem in problems)}"
            for problems in found
        ),
        ctx,
    )
