"""The commands that look after the stores on disk."""

from pathlib import Path

import click

from invoicefs.cli.options import PATH, Command, examples, option, tell
from invoicefs.errors import UserError
from invoicefs.folders import default_cache_dir
from invoicefs.units import rounded_size
from invoicefs.urls import URL_EXAMPLE, normalise_url


@click.group()
def cache() -> None:
    """Look after the stores on disk, with and without mounts that use them."""
    from invoicefs.mount import logs

    logs.configure(is_foreground=True, log_file=None, verbosity=0)


def _store_options(command: Command) -> Command:
    for each in (
        click.option("--url", help="Only the store of this tenant."),
        option("--cache-dir", "cache_dir", "Parent folder of the stores.", type=PATH),
    ):
        command = each(command)
    return command


def _stores(cache_dir: Path | None, url: str | None) -> tuple[Path, ...]:
    """The stores that are meant; raises `UserError` where there is none."""
    from invoicefs.store.maintenance import stores

    normalised = normalise_url(url, may_be_unencrypted=True) if url else None
    found = stores(cache_dir or default_cache_dir(), normalised)
    if not found:
        raise UserError(f"There is no store in {cache_dir or default_cache_dir()}.")
    return found


@cache.command(epilog=examples("invoicefs cache info"))
@_store_options
def info(cache_dir: Path | None, url: str | None) -> None:
    """Show where the stores are, and what they take."""
    from invoicefs.store.maintenance import usage

    for each in map(usage, _stores(cache_dir, url)):
        tell(
            f"{each.folder}: {each.pdf_count} invoices in {rounded_size(each.pdf_bytes)}, "
            f"{rounded_size(each.size_bytes)} with lists and sizes"
        )


@cache.command(epilog=examples("invoicefs cache verify --dry-run"))
@click.option("--dry-run", "is_dry", is_flag=True, help="Remove nothing.")
@_store_options
@click.pass_context
def verify(ctx: click.Context, /, cache_dir: Path | None, url: str | None, is_dry: bool) -> None:
    """Check every stored invoice, and remove damaged ones: they are downloaded again.

    Ends with 1 where some were damaged.
    """
    from invoicefs.store.maintenance import verify as verify_store

    is_whole = True
    for folder in _stores(cache_dir, url):
        verdict = verify_store(folder, is_dry=is_dry)
        is_whole = is_whole and not verdict.corrupt
        fate = "damaged" if is_dry else "damaged and removed"
        tell(f"{folder}: {verdict.whole} invoices are whole, {verdict.corrupt} {fate}")
    ctx.exit(0 if is_whole else 1)


@cache.command(
    epilog=examples(
        "invoicefs cache clear --dry-run",
        f"invoicefs cache clear --all --url {URL_EXAMPLE}",
    )
)
@click.option("--all", "everything", is_flag=True, help="Forget lists, sizes and dates, too.")
@click.option(
    "--dry-run", "is_dry", is_flag=True, help="Say what would be freed, and free nothing."
)
@_store_options
def clear(cache_dir: Path | None, url: str | None, everything: bool, is_dry: bool) -> None:
    """Remove all stored invoices: they are downloaded again when they are opened.

    Lists, sizes and dates stay, so that backups see the same files, unless --all is given.
    """
    from invoicefs.store.maintenance import clear as clear_store
    from invoicefs.store.maintenance import usage

    for before in map(usage, _stores(cache_dir, url)):
        size_bytes, verb = before.size_bytes if everything else before.pdf_bytes, "would free"
        if not is_dry:
            clear_store(before.folder, everything=everything)
            size_bytes, verb = before.size_bytes - usage(before.folder).size_bytes, "freed"
        tell(f"{before.folder}: {verb} {rounded_size(size_bytes)}, {before.pdf_count} invoices")
