"""The commands ``invoicefs login`` and ``invoicefs logout``."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invoicefs.cli.options import LOGIN_PROFILE, examples, login_options, source_of_options
from invoicefs.cli.output import counted, print_lines, print_message
from invoicefs.cli.parameter_types import FOLDER
from invoicefs.credentials.profiles import (
    ARCHIVE_VARIABLE,
    DEFAULT_PROFILE,
    INSECURE_HTTP_VARIABLE,
    MOUNT_POINT_VARIABLE,
    find_profile,
    profile_file,
)
from invoicefs.credentials.secret_files import keep_memory_private
from invoicefs.credentials.sources import OUR_VARIABLES, CredentialSource, check_options, choose
from invoicefs.errors import UsageError, UserError
from invoicefs.urls import URL_EXAMPLE, normalise_url

if TYPE_CHECKING:
    from invoicefs.cli.login_attempts import Login


@click.command(
    epilog=examples(
        "invoicefs login",
        f"invoicefs login --profile work --url {URL_EXAMPLE} --p12 me.p12 --mount-point ~/work",
        f"invoicefs login --url {URL_EXAMPLE} < token",
    ),
)
@LOGIN_PROFILE
@login_options
@click.option(
    "--mount-point",
    metavar="FOLDER",
    type=FOLDER,
    help="Folder on which 'invoicefs mount' mounts this profile unless MOUNTPOINT is given.",
)
@click.option(
    "--archive",
    metavar="FOLDER",
    type=FOLDER,
    help="Folder for the nightly archive of the invoices.",
)
@click.pass_context
def login(
    ctx: click.Context,
    /,
    profile: str,
    is_insecure: bool,
    mount_point: Path | None,
    archive: Path | None,
    **_: Any,
) -> None:
    """Log in to a tenant, and save its URL and credential.

    Prompts for the URL and for an API token, unless they are given by options, or the token comes
    through a pipe. Checks them with one request, and saves them in the profile
    ~/.config/invoicefs/NAME.env, which only you can read. If the credential is
    in files, only their paths are saved.

    Logging in again replaces the URL and the credential, and nothing else in the profile; a mount
    that uses a token from it continues with the new one.
    """
    from invoicefs.cli.login_attempts import log_in
    from invoicefs.credentials.profile_files import write_profile
    from invoicefs.mount import logs

    logs.configure(is_foreground=True, log_file=None, verbosity=0)
    keep_memory_private()
    given = source_of_options(ctx)
    check_options(given)
    old = find_profile(profile)
    found = log_in(given, old, is_insecure=is_insecure)
    folders = {MOUNT_POINT_VARIABLE: mount_point, ARCHIVE_VARIABLE: archive}
    variables = {
        **dict(_credential_variables(found)),
        **{name: str(folder.absolute()) for name, folder in folders.items() if folder},
    }
    replaced = {*OUR_VARIABLES.values(), INSECURE_HTTP_VARIABLE}
    write_profile(profile, replaced, variables)
    for file in found.credentials.exposed_files:
        print_message(
            "invoicefs", f"Others on this machine can read or change {file}: chmod 600 {file}"
        )
    print_lines(f"Logged in to {found.url} ({_namespaces(found.namespace_count)}).")
    print_lines(f"Now: {_mount_command(profile, ctx.obj.secrets)}")


@click.command(epilog=examples("invoicefs logout", "invoicefs logout --profile work"))
@LOGIN_PROFILE
def logout(profile: str) -> None:
    """Remove a profile, with the credential and all settings in it.

    The credential itself stays valid until it expires or is revoked in the console. A mount that
    uses it is not affected. To replace the credential and keep the settings, log in again.
    """
    from invoicefs.credentials.profile_files import remove_profile

    file = profile_file(profile)
    remove_profile(profile)
    print_lines(f"Removed {file}. Running mounts keep their credential until they are unmounted.")


def _namespaces(count: int | None) -> str:
    if count is None:
        return "this credential may not list namespaces"
    return counted(count, "namespace")


def _credential_variables(found: "Login") -> Iterator[tuple[str, str]]:
    """Yield the variables, and their values, with which a mount uses the same credential."""
    yield OUR_VARIABLES["url"], found.url
    for field in ("token_file", "p12", "p12_password_file", "cert", "key", "ca_bundle"):
        file = getattr(found.source, field)
        if file is not None:
            yield OUR_VARIABLES[field], str(file.path)
    if found.secret:
        yield OUR_VARIABLES["p12_password" if found.source.p12 else "token"], found.secret
    try:
        normalise_url(found.url)
    except UsageError:
        yield INSECURE_HTTP_VARIABLE, "1"


def _mount_command(name: str, secrets: Mapping[str, str]) -> str:
    """Return the command that mounts a profile."""
    profile = find_profile(name)
    assert profile is not None
    command = "invoicefs mount"
    if not (name == DEFAULT_PROFILE and _is_default_used(secrets)):
        command += f" --profile {name}"
    has_folder = name != DEFAULT_PROFILE or MOUNT_POINT_VARIABLE in profile.variables
    return command if has_folder else f"{command} ~/invoices"


def _is_default_used(secrets: Mapping[str, str]) -> bool:
    """Return whether a mount without options uses the default profile, not another source."""
    if os.environ.get("INVOICEFS_PROFILE"):
        return False
    try:
        choice = choose(CredentialSource(is_ours=True), secrets, may_be_unencrypted=False)
    except UserError:
        return False
    return choice.source.profile is not None
