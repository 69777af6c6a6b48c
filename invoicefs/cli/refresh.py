"""The command ``invoicefs refresh``."""

from pathlib import Path

import click

from invoicefs.cli.options import NO_CACHE_DIR, examples
from invoicefs.cli.output import exit_with
from invoicefs.cli.parameter_types import PATH_IN_MOUNT


@click.command(epilog=examples("invoicefs refresh", "invoicefs refresh ~/invoices/system"))
@click.argument("path", metavar="[PATH]", type=PATH_IN_MOUNT, required=False)
@NO_CACHE_DIR
@click.pass_context
def refresh(ctx: click.Context, /, path: Path | None) -> None:
    """Refresh listings now, and drafts when they are next opened.

    Applies to the namespace that PATH is in or, if PATH is a mount point, to everything that the
    mount has listed; without PATH, to all your mounts. Exits with status 1 if a refresh fails.
    """
    from invoicefs.cli import running_mounts

    if path:
        running_mounts.refresh(running_mounts.place_of(str(path)))
    else:
        exit_with(running_mounts.refresh_all(), ctx)
