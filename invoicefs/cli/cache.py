"""The commands ``invoicefs cache info``, ``verify`` and ``clear``."""

from pathlib import Path

import click

from invoicefs.cli.options import CACHE_DIR, Command, examples
from invoicefs.cli.output import counted, print_json, print_lines
from invoicefs.errors import UserError
from invoicefs.folders import default_cache_dir
from invoicefs.units import rounded_size
from invoicefs.urls import URL_EXAMPLE, normalise_url


@click.group()
def cache() -> None:
    """Inspect and clean the caches on disk.

    Works whether or not mounts are using them.
    """
    from invoicefs.mount import logs

    logs.configure(is_foreground=True, log_file=None, verbosity=0)


_JSON = click.option("--json", "is_json", is_flag=True, help="Print a JSON array of the caches.")


def _store_options(command: Command) -> Command:
    for add_option in (
        click.option("--url", metavar="URL", help="Use only the cache of this tenant."),
        CACHE_DIR,
    ):
        command = add_option(command)
    return command


def _stores(cache_dir: Path | None, url: str | None) -> tuple[Path, ...]:
    """Return the folders of the chosen caches; raises `UserError` if there is none."""
    from invoicefs.store.maintenance import stores

    normalised = normalise_url(url, may_be_unencrypted=True) if url else None
    found = stores(cache_dir or default_cache_dir(), normalised)
    if not found:
        raise UserError(f"There is no cache in {cache_dir or default_cache_dir()}.")
    return found


@cache.command(epilog=examples("invoicefs cache info"))
@_store_options
@_JSON
def info(cache_dir: Path | None, url: str | None, is_json: bool) -> None:
    """Show where the caches are, and how large they are."""
    from invoicefs.store.maintenance import usage

    found = [usage(folder) for folder in _stores(cache_dir, url)]
    if is_json:
        print_json(
            [
                {
                    "folder": str(store.folder),
                    "invoices": store.pdf_count,
                    "pdf_bytes": store.pdf_bytes,
                    "size_bytes": store.size_bytes,
                }
                for store in found
            ]
        )
        return
    for store in found:
        invoices = counted(store.pdf_count, "invoice")
        print_lines(
            f"{store.folder}: {invoices} in {rounded_size(store.pdf_bytes)}, "
            f"{rounded_size(store.size_bytes)} with listings and sizes"
        )


@cache.command(epilog=examples("invoicefs cache verify --dry-run"))
@click.option(
    "--dry-run", "is_dry", is_flag=True, help="Report damaged invoices without removing them."
)
@_store_options
@_JSON
@click.pass_context
def verify(
    ctx: click.Context, /, cache_dir: Path | None, url: str | None, is_dry: bool, is_json: bool
) -> None:
    """Check every cached invoice, and remove damaged ones.

    Removed invoices are downloaded again when they are next opened. Exits with status 1 if any were
    damaged.
    """
    from invoicefs.store.maintenance import verify as verify_store

    fate = "damaged" if is_dry else "damaged and removed"
    results = []
    for folder in _stores(cache_dir, url):
        result = verify_store(folder, is_dry=is_dry)
        results.append(result)
        if not is_json:
            print_lines(
                f"{folder}: {counted(result.whole, 'whole invoice')}, {result.corrupt} {fate}"
            )
    if is_json:
        print_json(
            [
                {
                    "folder": str(result.folder),
                    "whole": result.whole,
                    "damaged": result.corrupt,
                    "removed": 0 if is_dry else result.corrupt,
                }
                for result in results
            ]
        )
    ctx.exit(1 if any(result.corrupt for result in results) else 0)


@cache.command(
    epilog=examples(
        "invoicefs cache clear --dry-run",
        f"invoicefs cache clear --all --url {URL_EXAMPLE}",
    )
)
@click.option("--all", "everything", is_flag=True, help="Also remove listings, sizes and dates.")
@click.option(
    "--dry-run", "is_dry", is_flag=True, help="Show what would be freed without removing it."
)
@_store_options
def clear(cache_dir: Path | None, url: str | None, everything: bool, is_dry: bool) -> None:
    """Remove all cached invoices; they are downloaded again when they are opened.

    Listings, sizes and dates are kept, so that backups see the same files, unless --all is given.
    """
    from invoicefs.store.maintenance import clear as clear_store
    from invoicefs.store.maintenance import usage

    for before in map(usage, _stores(cache_dir, url)):
        size_bytes, verb = before.size_bytes if everything else before.pdf_bytes, "would free"
        if not is_dry:
            clear_store(before.folder, everything=everything)
            size_bytes, verb = before.size_bytes - usage(before.folder).size_bytes, "freed"
        invoices = counted(before.pdf_count, "invoice")
        print_lines(f"{before.folder}: {verb} {rounded_size(size_bytes)}, {invoices}")
