"""The command ``invoicefs demo``."""

from pathlib import Path

import click

from invoicefs.cli.options import examples
from invoicefs.cli.output import print_lines
from invoicefs.cli.parameter_types import FOLDER


@click.command(epilog=examples("invoicefs demo", "invoicefs demo --once ~/demo"))
@click.argument("mount_point", metavar="[MOUNTPOINT]", type=FOLDER, required=False)
@click.option("--once", is_flag=True, help="Unmount and exit after the tour.")
def demo(mount_point: Path | None, once: bool) -> None:
    """Give a tour of sample invoices from an embedded API server.

    Mounts them, and needs no account. Without MOUNTPOINT, a temporary folder is used.
    """
    from invoicefs.cli.demo_tour import run_demo

    run_demo(
        mount_point.absolute() if mount_point else None,
        is_once=once,
        say=lambda text: print_lines(*text.split("\n")),
    )
