"""The commands ``invoicefs mount`` and ``invoicefs umount``."""

import functools
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invoicefs.cli.options import (
    INSECURE_HTTP,
    Invocation,
    MountCommand,
    examples,
    mount_options,
    option,
    settings_of,
)
from invoicefs.cli.output import exit_with, print_message, prompt_for_secret
from invoicefs.cli.parameter_types import FOLDER, MOUNT_POINT, PATH
from invoicefs.cli.tenants import choose_tenant, ignored_variables
from invoicefs.credentials.profiles import default_mount_point
from invoicefs.credentials.secret_files import keep_memory_private
from invoicefs.credentials.sources import Choice
from invoicefs.errors import UsageError, UserError
from invoicefs.settings import Fetch
from invoicefs.urls import URL_EXAMPLE

if TYPE_CHECKING:
    from invoicefs.credentials.load import Credentials

log = logging.getLogger(__name__)

_SERVERS_NEED_ON_STAT = (
    "To share the folder with Samba, NFS or a web server, mount it with {option} as well:"
    " they rely on the size from before they open a file."
)


@click.command(
    cls=MountCommand,
    epilog=examples(
        "invoicefs mount ~/invoices     # after 'invoicefs login'",
        f"invoicefs mount --url {URL_EXAMPLE} --token-file ~/.invoicefs-token ~/invoices",
        "invoicefs mount -o namespace=system,status=paid,list_ttl=5m ~/invoices",
        "invoicefs mount --p12 me.p12 --ca-bundle company.pem --foreground ~/invoices",
    ),
)
@click.argument("mount_point", metavar="[MOUNTPOINT]", type=FOLDER, required=False)
@mount_options
@INSECURE_HTTP
@option("--foreground", "is_foreground", "Stay in the foreground.", is_flag=True)
@option("--log-file", "log_file", "Write the log to this file.", type=PATH)
@option(
    "--verbose",
    "verbosity",
    "Log every API request; with -vv, every file operation as well.",
    short="-v",
    count=True,
)
@option("--quiet", "is_quiet", "Print no warnings, only errors.", short="-q", is_flag=True)
@click.option(
    "-o",
    "mount_options",
    metavar="OPTION[=VALUE],...",
    multiple=True,
    help="Options in the form of mount(8), such as -o list_ttl=5m,allow_other. Generic options,"
    " such as ro and nofail, are ignored.",
)
@click.pass_context
def mount(ctx: click.Context, /, mount_point: Path | None, **_: Any) -> None:
    """Mount a tenant on the empty folder MOUNTPOINT.

    Returns when the folder is usable, and continues in the background. The credential is an API
    token or a client certificate. It is taken from the options, the profile that --profile names,
    INVOICEFS_TOKEN, the variables of other clients (F5XC_*, VOLT_*), ~/.vesconfig or the default
    profile, which 'invoicefs login' writes; otherwise you are prompted for a token.

    The profile in use also provides the other options that are not given. Without MOUNTPOINT, its
    INVOICEFS_MOUNTPOINT is used, or ~/NAME with --profile NAME. With a profile, a missing
    MOUNTPOINT is created.
    """
    from invoicefs.credentials.load import read_credentials
    from invoicefs.mount import logs
    from invoicefs.mount.lifecycle import mount as mount_tenant
    from invoicefs.mount.mountpoint import create_folder

    call: Invocation = ctx.obj
    choice, options = choose_tenant(ctx)
    warn = (
        _warn_nobody
        if options["is_quiet"]
        else functools.partial(print_message, str(ctx.find_root().info_name))
    )
    folder = _folder_of(mount_point, choice, options["profile"])
    failures = logs.configure(
        is_foreground=options["is_foreground"],
        log_file=options["log_file"].absolute() if options["log_file"] else None,
        verbosity=options["verbosity"],
        is_quiet=options["is_quiet"],
    )
    settings = settings_of(choice.url, options)
    if settings.allow_other and settings.fetch is not Fetch.ON_STAT:
        option = "fetch=on-stat" if call.helper else "--fetch on-stat"
        warn(_SERVERS_NEED_ON_STAT.format(option=option))
    for sentence in ignored_variables(choice.profile, ctx.command) if choice.profile else ():
        warn(sentence)
    credentials = read_credentials(choice, prompt_for_secret if sys.stdin.isatty() else None)
    origins = _origins(choice, credentials)
    log.info("%s", origins)
    if options["verbosity"] and not options["is_foreground"]:  # the log goes elsewhere
        warn(origins)
    for file in credentials.exposed_files:
        warn(f"Others on this machine can read or change {file}: chmod 600 {file}")
    if call.helper and call.helper.is_fake:
        return
    keep_memory_private()
    logs.ignore_errors()
    if choice.profile and not call.helper:
        create_folder(folder)
    mount_tenant(
        settings,
        credentials,
        folder,
        source=call.helper.source if call.helper else settings.url,
        is_foreground=options["is_foreground"],
        failures=failures,
        warn=warn,
    )


def _warn_nobody(_: str) -> None:
    """Print no warning."""


def _origins(choice: Choice, credentials: "Credentials") -> str:
    """Return a sentence about the sources of the URL and the credential."""
    origins = f"The URL is from {choice.url_origin}, with {credentials.description}."
    if credentials.ca_bundle:
        origins += f" Trusting the certificates in {credentials.ca_bundle}."
    return origins


def _folder_of(mount_point: Path | None, choice: Choice, profile_name: str | None) -> str:
    """Return the absolute path to mount on; raises `UsageError` if there is none."""
    folder = mount_point or (choice.profile.mount_point if choice.profile else None)
    if folder is None and profile_name:
        folder = default_mount_point(profile_name)
    if folder is None:
        raise UsageError("There is no MOUNTPOINT: give an empty folder, such as ~/invoices.")
    return str(folder.absolute())


@click.command(epilog=examples("invoicefs umount ~/invoices", "invoicefs umount --lazy ~/invoices"))
@click.argument("mount_points", metavar="MOUNTPOINT...", type=MOUNT_POINT, nargs=-1, required=True)
@click.option("--lazy", is_flag=True, help="Detach now; the mount ends when no program uses it.")
@click.pass_context
def umount(ctx: click.Context, /, mount_points: tuple[Path, ...], lazy: bool) -> None:
    """Unmount each MOUNTPOINT.

    Exits with status 1 if one of them cannot be unmounted; the others are unmounted all the same.
    """
    from invoicefs.mount.mountpoint import unmount

    failures = []
    for mount_point in mount_points:
        try:
            unmount(str(mount_point.absolute()), lazy=lazy)
        except UserError as error:
            failures.append(str(error))
    exit_with(tuple(failures), ctx)
