"""The command ``invoicefs list``."""

import shutil
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from invoicefs.cli.options import (
    INSECURE_HTTP,
    examples,
    list_options,
    settings_of,
    source_of_options,
)
from invoicefs.cli.output import (
    exit_with,
    print_json,
    print_lines,
    print_message,
    prompt_for_secret,
)
from invoicefs.cli.parameter_types import PATH_IN_MOUNT, PERIOD
from invoicefs.cli.tenants import choose_tenant
from invoicefs.errors import UsageError, UserError
from invoicefs.urls import URL_EXAMPLE, normalise_url

if TYPE_CHECKING:
    from invoicefs.cli.entries import Entries, Entry
    from invoicefs.cli.running_mounts import Place

_Days = tuple[date, date]


@click.command(
    "list",
    epilog=examples(
        "invoicefs list ~/invoices/system",
        "invoicefs list --csv --since 2026-01 --until 2026-03 > first-quarter.csv",
        f"invoicefs list --json --url {URL_EXAMPLE} --token-file ~/.invoicefs-token",
    ),
)
@click.argument("paths", metavar="[PATH]...", type=PATH_IN_MOUNT, nargs=-1)
@click.option("--csv", "is_csv", is_flag=True, help="Print CSV (RFC 4180, UTF-8).")
@click.option("--json", "is_json", is_flag=True, help="Print a JSON array, one object per invoice.")
@click.option(
    "--since",
    type=PERIOD,
    metavar="DATE",
    help="Only invoices whose period starts in or after this year, month or day, such as 2026-01.",
)
@click.option(
    "--until",
    type=PERIOD,
    metavar="DATE",
    help="Only invoices whose period starts in or before this year, month or day.",
)
@click.option(
    "--sort",
    type=click.Choice(["period", "name", "amount"]),
    default="period",
    show_default=True,
    help="Order of the invoices; amounts are compared within each currency.",
)
@list_options
@INSECURE_HTTP
@click.pass_context
def list_(
    ctx: click.Context,
    /,
    paths: tuple[Path, ...],
    is_csv: bool,
    is_json: bool,
    since: _Days | None,
    until: _Days | None,
    sort: str,
    **fields: Any,
) -> None:
    """List invoices with period, status and amount.

    Downloads no PDF. PATH is a mount, or a namespace or an invoice in it; without PATH, all your
    mounts are listed. With --url or --profile, or if nothing is mounted, a tenant is listed without
    a mount; the options for the credential are those of mount. --since, --until and --status never
    hide an invoice whose period or status is unknown. Exits with status 1 if something could not be
    listed.

    The API gives amounts as whole numbers of a currency's smallest unit, with the number of digits
    in ISO 4217: 12345 is 123.45 EUR, 12345 JPY or 12.345 BHD. --csv and --json show an amount as a
    decimal number, and leave it empty if it is unknown.
    """
    from invoicefs.cli import list_formats
    from invoicefs.cli.invoice_filter import InvoiceFilter, in_order

    if is_csv and is_json:
        raise UsageError("--csv and --json are mutually exclusive: give one of them.")
    if since and until and since[0] > until[1]:
        raise UsageError("--since is later than --until.")
    tenants = _tenants(ctx, paths, fields["namespaces"])
    chosen = InvoiceFilter(
        since=since[0] if since else None,
        until=until[1] if until else None,
        statuses=frozenset(fields["statuses"]),
    )
    found = (entry for tenant in tenants for entry in tenant.entries)
    entries = in_order(sort, filter(chosen.includes, found))
    failures = tuple(
        words for tenant in tenants for words in (*tenant.failures, *tenant.forbidden.values())
    )
    if is_csv:
        sys.stdout.buffer.write(list_formats.as_csv(entries))
        sys.stdout.buffer.flush()
    elif is_json:
        print_json(list_formats.as_json(entries))
    elif entries or not failures:
        _print_table(entries)
    for sentence in list_formats.unknown_amounts(entries):
        print_message("invoicefs", sentence)
    exit_with(failures, ctx)


def _tenants(
    ctx: click.Context, paths: Sequence[Path], namespaces: Sequence[str]
) -> "list[Entries]":
    """Return the invoices of each tenant: of some paths, of all mounts, or without a mount."""
    from invoicefs.cli import running_mounts
    from invoicefs.cli.entries import joined

    if paths and _names_tenant(ctx):
        raise UsageError("A PATH cannot be given with --url or --profile.")
    if paths:
        places = [running_mounts.place_of(str(path)) for path in paths]
    else:
        places = [] if _names_tenant(ctx) else list(running_mounts.own_places())
    if not places:
        return [_unmounted_entries(ctx)]
    by_tenant: dict[str, list[Entries]] = {}
    for place in places:
        by_tenant.setdefault(_tenant_of(place), []).append(_entries_at(place, namespaces))
    return list(map(joined, by_tenant.values()))


def _tenant_of(place: "Place") -> str:
    """Return the URL of the tenant of a mount; fstab may have it in another form."""
    try:
        return normalise_url(place.mount.source, may_be_unencrypted=True)
    except UsageError:
        return place.mount.source


def _entries_at(place: "Place", namespaces: Sequence[str]) -> "Entries":
    from invoicefs.cli import running_mounts
    from invoicefs.cli.entries import Entries, list_entries

    try:
        respond = running_mounts.responder(place.mount)
    except UserError as error:
        return Entries(failures=(f"{place.mount.path}: {error}",))
    return list_entries(respond, place.mount.path, place.inside, namespaces)


def _names_tenant(ctx: click.Context) -> bool:
    """Return whether the command line names a tenant, instead of a mount."""
    has_profile = ctx.get_parameter_source("profile") is ParameterSource.COMMANDLINE
    return has_profile or source_of_options(ctx).url is not None


def _unmounted_entries(ctx: click.Context) -> "Entries":
    from invoicefs.cli.entries import list_entries
    from invoicefs.credentials.load import read_credentials
    from invoicefs.mount import logs, unmounted

    # What the library logs is reported with the invoices.
    logs.configure_quiet()
    try:
        choice, options = choose_tenant(ctx)
    except UsageError as error:
        if _names_tenant(ctx):
            raise
        raise UserError(f"You have no mounts to list. {error}") from None
    credentials = read_credentials(choice, prompt_for_secret if sys.stdin.isatty() else None)
    settings = settings_of(choice.url, options)

    def warn(words: str) -> None:
        print_message("invoicefs", words)

    with unmounted.responder(settings, credentials, warn) as respond:
        return list_entries(respond, "")


def _print_table(entries: "Sequence[Entry]") -> None:
    from invoicefs.cli import list_formats

    if not entries:
        print_lines("No invoices.")
        return
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print_lines(*list_formats.as_table(entries, columns), "", list_formats.sums(entries))
