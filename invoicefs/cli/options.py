"""The options that commands share, and the settings and the credential source in them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import click
from click.core import ParameterSource

from invoicefs.cli.fstab import HelperCall, arguments_of
from invoicefs.cli.parameter_types import (
    DURATION,
    FILE_NAME,
    FOLDER,
    GROUP,
    OCTAL,
    PROFILE,
    SIZE,
    STATUS,
    URL,
    USER,
)
from invoicefs.credentials.profiles import DEFAULT_PROFILE
from invoicefs.credentials.sources import CredentialSource
from invoicefs.errors import InvalidSetting, UsageError
from invoicefs.settings import Fetch, Settings
from invoicefs.units import format_size_bytes
from invoicefs.urls import URL_EXAMPLE

_DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Settings)}

Command = Callable[..., None]


@dataclasses.dataclass(frozen=True, slots=True)
class Invocation:
    """How the program was run, besides its arguments: secret variables, and a run by mount(8)."""

    secrets: Mapping[str, str] = dataclasses.field(repr=False)
    helper: HelperCall | None = None


def examples(*lines: str) -> str:
    """Return the end of a help text, with example command lines."""
    # Click does not reflow a paragraph that begins with this character.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


class OptionOrVariable(click.Option):
    """An option that can also be set in the environment."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the value of the variable; click 8.2.0 and 8.2.1 turn a flag on for any value."""
        return click.Parameter.resolve_envvar_value(self, ctx)


def option(
    name: str, field: str, text: str, *, short: str | None = None, **attributes: Any
) -> Callable[[Command], Command]:
    """Return an option that can also be set by ``INVOICEFS_NAME`` in the environment."""
    names = (name, field) if short is None else (short, name, field)
    variable = "INVOICEFS_" + name.removeprefix("--").replace("-", "_").upper()
    return click.option(
        *names, cls=OptionOrVariable, help=text, envvar=variable, show_envvar=True, **attributes
    )


def _size(name: str, field: str, text: str) -> Callable[[Command], Command]:
    default = format_size_bytes(_DEFAULTS[field])
    return option(name, field, text, type=SIZE, default=default, show_default=True)


def _duration(name: str, field: str, text: str) -> Callable[[Command], Command]:
    default = f"{_DEFAULTS[field]:g}s"
    return option(name, field, text, type=DURATION, default=default, show_default=True)


def _number(name: str, field: str, text: str, *, at_least: int) -> Callable[[Command], Command]:
    numbers = click.IntRange(min=at_least)
    default = _DEFAULTS[field]
    return option(
        name, field, text, type=numbers, metavar="NUMBER", default=default, show_default=True
    )


# The fields of `CredentialSource`.
_TENANT_OPTIONS = {
    "url": ("--url", f"URL of the tenant, such as {URL_EXAMPLE}.", URL),
    "token_file": ("--token-file", "File with the API token.", FILE_NAME),
    "p12": ("--p12", "P12 bundle with the client certificate and its key.", FILE_NAME),
    "p12_password_file": ("--p12-password-file", "File with the password of --p12.", FILE_NAME),
    "cert": (
        "--cert",
        "PEM file with the client certificate, and its key unless --key is given.",
        FILE_NAME,
    ),
    "key": ("--key", "PEM file with the private key of --cert.", FILE_NAME),
    "ca_bundle": (
        "--ca-bundle",
        "PEM file with the certificates to trust instead of the public ones.",
        FILE_NAME,
    ),
}

_INSECURE_HTTP = ("--insecure-http", "is_insecure")
_INSECURE_HTTP_HELP = (
    "Allow http:// to other machines. Anyone on the network can then read the token."
)
_NAMESPACE = option(
    "--namespace",
    "namespaces",
    "Show only this namespace; can be repeated. Invoices are usually in 'system'.",
    multiple=True,
    metavar="NAME",
)
_STATUSES = option(
    "--status",
    "statuses",
    "Show only invoices with this status, such as 'paid'; can be repeated.",
    multiple=True,
    type=STATUS,
)
CACHE_DIR = option(
    "--cache-dir",
    "cache_dir",
    "Parent folder of the caches.  [default: ~/.cache/invoicefs]",
    type=FOLDER,
)
_TIMEOUT = _duration("--timeout", "timeout_s", "How long an operation may take before it fails.")

# Every option that sets a field of `Settings`.
_SETTINGS_OPTIONS = (
    _NAMESPACE,
    _STATUSES,
    CACHE_DIR,
    _size("--cache-size", "cache_size_bytes", "Maximum total size of cached PDFs."),
    option(
        "--fetch",
        "fetch",
        "When to download an invoice: on open, or already on stat, for programs that rely on the"
        " size before they open a file.",
        type=click.Choice([moment.value for moment in Fetch]),
        default=_DEFAULTS["fetch"].value,
        show_default=True,
    ),
    _number("--parallel", "parallel", "Maximum number of concurrent API requests.", at_least=1),
    _number(
        "--read-ahead",
        "read_ahead",
        "Maximum number of invoices to download ahead of sequential access.",
        at_least=0,
    ),
    _TIMEOUT,
    option(
        "--max-wait",
        "max_wait_s",
        "How long to retry when the API is busy or unreachable.  [default: 5s, at most --timeout]",
        type=DURATION,
    ),
    _duration("--list-ttl", "list_ttl_s", "How long a listing is used before it is refreshed."),
    _duration(
        "--active-ttl",
        "active_ttl_s",
        "How long the PDF of a draft invoice is used before it is downloaded again.",
    ),
    _size(
        "--max-pdf-size",
        "max_pdf_size_bytes",
        "Maximum size of a PDF; larger ones cannot be opened.",
    ),
    option(
        "--uid",
        "uid",
        "Owner of the files, by name or number.  [default: you]",
        type=USER,
        metavar="USER",
    ),
    option(
        "--gid",
        "gid",
        "Group of the files, by name or number.  [default: yours]",
        type=GROUP,
        metavar="GROUP",
    ),
    option("--umask", "umask", "Permission bits to remove.", type=OCTAL, default="000"),
    option("--allow-other", "allow_other", "Allow other users to access the mount.", is_flag=True),
    option(
        "--xattr",
        "xattr",
        "Provide status, period, amount and SHA-256 as extended attributes (getfattr -d).",
        is_flag=True,
    ),
)


# The option of the commands that use a profile, and of those that write or remove one.
_USED_PROFILE = option(
    "--profile",
    "profile",
    "Use the URL, the credential and the settings in this profile, see 'invoicefs login'.",
    metavar="NAME",
    type=PROFILE,
)
LOGIN_PROFILE = click.option(
    "--profile",
    help="Name of the profile.",
    metavar="NAME",
    type=PROFILE,
    default=DEFAULT_PROFILE,
    show_default=True,
)


def login_options(command: Command) -> Command:
    """Add the options for URL and credential to a command, without their variables."""
    command = click.option(*_INSECURE_HTTP, help=_INSECURE_HTTP_HELP, is_flag=True)(command)
    for field, (name, text, kind) in reversed(_TENANT_OPTIONS.items()):
        command = click.option(name, field, help=text, type=kind)(command)
    return command


def mount_options(command: Command) -> Command:
    """Add the options of a mount to a command, except those of the mount process."""
    return _with_tenant_options(command, *_SETTINGS_OPTIONS)


def list_options(command: Command) -> Command:
    """Add the options of a mount with which a tenant can be listed without one."""
    return _with_tenant_options(command, _NAMESPACE, _STATUSES, CACHE_DIR, _TIMEOUT)


def _with_tenant_options(command: Command, *others: Callable[[Command], Command]) -> Command:
    tenant = [
        option(name, field, text, type=kind)
        for field, (name, text, kind) in _TENANT_OPTIONS.items()
    ]
    for add_option in reversed((_USED_PROFILE, *tenant, *others)):
        command = add_option(command)
    return command


INSECURE_HTTP = option(*_INSECURE_HTTP, _INSECURE_HTTP_HELP, is_flag=True)


class MountCommand(click.Command):
    """A command whose options can also be given as one ``-o`` list, see mount(8)."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Expand ``-o`` lists into options, except those that are also given explicitly."""
        if ctx.resilient_parsing:  # completion, of a line that may not be valid yet
            return super().parse_args(ctx, args)
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        lists = given.get("mount_options", [])
        explicit = {name for param in self.params if param.name in given for name in param.opts}
        listed = [
            argument
            for text in lists
            for argument in arguments_of(text, takes_value(self))
            if argument.partition("=")[0] not in explicit
        ]
        return super().parse_args(ctx, [*listed, *args])


def takes_value(command: click.Command) -> Mapping[str, bool]:
    """Return the long options of a command, as in ``list_ttl``, and whether they take a value."""
    return {
        name.removeprefix("--").replace("-", "_"): not (option.is_flag or option.count)
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--")
    }


NO_CACHE_DIR = click.option(
    "--cache-dir",
    type=FOLDER,
    hidden=True,
    expose_value=False,
    help="Ignored; earlier versions needed it to find a mount, and scripts may still use it.",
)


def source_of_options(ctx: click.Context) -> CredentialSource:
    """Return the URL and the credential of the command line; `sources` reads the variables."""
    call: Invocation = ctx.obj
    names = {field: name for field, (name, _, _) in _TENANT_OPTIONS.items()}
    if call.helper:
        names["url"] = "the source"
    given = {
        names[field]: ctx.params[field]
        for field in names
        if ctx.get_parameter_source(field) is ParameterSource.COMMANDLINE
    }
    for name, text in given.items():
        if not text:
            raise UsageError(f"{name} is empty.")
    return CredentialSource.of(given, names, is_ours=True)


def settings_of(url: str, options: Mapping[str, Any]) -> Settings:
    """Return the settings for the given options, with defaults for the others."""
    given = {name: options[name] for name in _DEFAULTS.keys() & options.keys() - {"url"}}
    given = {name: value for name, value in given.items() if value is not None}
    given["statuses"] = frozenset(given["statuses"])
    if "fetch" in given:
        given["fetch"] = Fetch(given["fetch"])
    given.setdefault("max_wait_s", min(_DEFAULTS["max_wait_s"], given["timeout_s"]))
    if "cache_dir" in given:
        given["cache_dir"] = given["cache_dir"].absolute()
    try:
        return Settings(url, **given)
    except InvalidSetting as error:
        raise UsageError(f"--{error}") from None
