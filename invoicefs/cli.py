"""The commands: options in, exceptions out as one sentence and an exit code.

What is heavy to import is imported by the command that needs it, so that ``--help`` answers at
once.
"""

import dataclasses
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click
from click.core import ParameterSource

from invoicefs import __version__, config
from invoicefs.config import URL_EXAMPLE, Fetch, Settings
from invoicefs.errors import InvoicefsError, UsageError, UserError
from invoicefs.families import OUR_VARIABLES, Family, choose, take_secrets
from invoicefs.mount_options import HelperCall, arguments_of, parse_helper_call

if TYPE_CHECKING:
    from invoicefs.fetching import Fetched

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # which older versions cannot subscript

log = logging.getLogger(__name__)

_DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Settings)}

Command = Callable[..., None]


class _ExitCodes(NamedTuple):
    """What a program ends with where it was used wrongly, failed, or the system refused."""

    usage: int
    failure: int
    system: int
    interrupt: int


_OURS = _ExitCodes(usage=2, failure=1, system=1, interrupt=1)
_OF_MOUNT = _ExitCodes(usage=1, failure=32, system=2, interrupt=8)  # see mount(8)


@dataclasses.dataclass(frozen=True, slots=True)
class _Call:
    """How the program was called beside its arguments: its secret variables, and by mount(8)."""

    secrets: Mapping[str, str] = dataclasses.field(repr=False)
    helper: HelperCall | None = None


def main() -> NoReturn:
    """Run the command line; a failure is one sentence on stderr, never a traceback."""
    _run("invoicefs", _OURS, lambda secrets: cli(prog_name="invoicefs", obj=_Call(secrets)))


def main_of_mount_helper() -> NoReturn:
    """Run ``mount.invoicefs``, which mount(8) calls for ``mount -t invoicefs`` and fstab(5)."""
    _run("mount.invoicefs", _OF_MOUNT, _mount_for_mount)


def _mount_for_mount(secrets: Mapping[str, str]) -> None:
    # What a shell has set for itself is not for fstab, INVOICEFS_FOREGROUND least of all.
    for name in [each for each in os.environ if each.startswith("INVOICEFS_")]:
        if name not in OUR_VARIABLES.values():
            del os.environ[name]
    call = parse_helper_call(sys.argv[1:], takes_value(mount))
    # The source comes last, so that it wins over a url= among the options.
    arguments = ["mount", *call.arguments, "--url", call.source, "--", call.mount_point]
    cli(arguments, prog_name="mount.invoicefs", standalone_mode=False, obj=_Call(secrets, call))


def _run(name: str, codes: _ExitCodes, run: Callable[[Mapping[str, str]], None]) -> NoReturn:
    def end(code: int, sentence: str) -> NoReturn:
        _say(name, " ".join(sentence.splitlines()))
        sys.exit(code)

    _open_closed_streams()
    try:
        run(take_secrets())
    except click.ClickException as error:
        end(codes.usage, error.format_message())
    except UsageError as error:
        end(codes.usage, str(error))
    except click.Abort:
        end(codes.interrupt, "Interrupted.")
    except InvoicefsError as error:
        end(codes.failure, str(error))
    except OSError as error:  # no working folder, no more processes, ...
        end(codes.system, f"The system refuses: {error.strerror or error}.")
    sys.exit(0)


def _open_closed_streams() -> None:
    """Put nothing in the place of standard streams that are closed (``2>&-`` in a crontab).

    Else the first files and pipes that are opened would take their numbers.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 # for good
            setattr(sys, name, stream)


class _Parsed(_ParamType):
    """A value that a function of `config` understands."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        try:
            return self._parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


_SIZE = _Parsed("size", config.parse_size_bytes)
_DURATION = _Parsed("duration", config.parse_duration_s)
_STATUS = _Parsed("status", config.parse_status)
_OCTAL = _Parsed("octal", config.parse_octal)
# Paths are not looked at here: a mount point may hang.
_PATH = _Parsed("path", Path)
_ID = click.IntRange(min=0, max=2**32 - 2)  # the one above stands for "leave it", see chown(2)


def _option(name: str, field: str, text: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option that can also be given as ``INVOICEFS_NAME`` in the environment."""
    variable = "INVOICEFS_" + name.removeprefix("--").replace("-", "_").upper()
    return click.option(name, field, help=text, envvar=variable, show_envvar=True, **attributes)


def _size(name: str, field: str, text: str) -> Callable[[Command], Command]:
    default = config.format_size_bytes(_DEFAULTS[field])
    return _option(name, field, text, type=_SIZE, default=default, show_default=True)


def _duration(name: str, field: str, text: str) -> Callable[[Command], Command]:
    default = f"{_DEFAULTS[field]:g}s"
    return _option(name, field, text, type=_DURATION, default=default, show_default=True)


# What `credentials.Family` is made of, by its fields.
_TENANT_OPTIONS = {
    "url": ("--url", f"URL of the tenant, like {URL_EXAMPLE}.", "URL"),
    "token_file": ("--token-file", "File that holds the API token.", "FILE"),
    "p12": ("--p12", "Client certificate in a P12 bundle.", "FILE"),
    "p12_password_file": ("--p12-password-file", "File that holds the password of --p12.", "FILE"),
    "cert": ("--cert", "Client certificate in PEM form, with --key or its key in it.", "FILE"),
    "key": ("--key", "Private key of --cert in PEM form.", "FILE"),
    "ca_bundle": (
        "--ca-bundle",
        "Trust the certificates in this PEM file instead of the public ones.",
        "FILE",
    ),
}

# Every option whose name is that of a field of `Settings`.
_SETTINGS_OPTIONS = (
    _option(
        "--namespace",
        "namespaces",
        "Show only this namespace; can be repeated. Invoices usually are in 'system'.",
        multiple=True,
        metavar="NAME",
    ),
    _option(
        "--status",
        "statuses",
        "Show only invoices in this state, like 'paid'; can be repeated.",
        multiple=True,
        type=_STATUS,
    ),
    _option(
        "--cache-dir",
        "cache_dir",
        "Parent folder of the stores.  [default: ~/.cache/invoicefs]",
        type=_PATH,
    ),
    _size("--cache-size", "cache_size_bytes", "Keep PDFs up to this size in sum."),
    _option(
        "--fetch",
        "fetch",
        "Download when a file is opened, or already when it is looked at: for programs that trust"
        " the size before they open.",
        type=click.Choice([each.value for each in Fetch]),
        default=_DEFAULTS["fetch"].value,
        show_default=True,
    ),
    _option(
        "--parallel",
        "parallel",
        "Make at most so many API calls at one time.",
        type=click.IntRange(min=1),
        default=_DEFAULTS["parallel"],
        show_default=True,
    ),
    _option(
        "--read-ahead",
        "read_ahead",
        "Fetch up to so many invoices ahead of a program that opens one after the other.",
        type=click.IntRange(min=0),
        default=_DEFAULTS["read_ahead"],
        show_default=True,
    ),
    _duration("--timeout", "timeout_s", "Give up an operation after this time."),
    _option(
        "--max-wait",
        "max_wait_s",
        "Try again for so long when the API is busy or away.  [default: 5s, at most --timeout]",
        type=_DURATION,
    ),
    _duration("--list-ttl", "list_ttl_s", "Use a listing for so long."),
    _duration("--active-ttl", "active_ttl_s", "Use the PDF of an unfinished invoice for so long."),
    _size("--max-pdf-size", "max_pdf_size_bytes", "Open no PDF that is larger than this."),
    _option("--uid", "uid", "Owner of the files.  [default: you]", type=_ID),
    _option("--gid", "gid", "Group of the files.  [default: yours]", type=_ID),
    _option("--umask", "umask", "Permission bits to take away.", type=_OCTAL, default="000"),
    _option("--allow-other", "allow_other", "Let other users look in.", is_flag=True),
    _option(
        "--xattr",
        "xattr",
        "Show status, period, amount and SHA-256 as extended attributes, for getfattr -d.",
        is_flag=True,
    ),
)


def _mount_options(command: Command) -> Command:
    tenant = [
        _option(name, field, text, metavar=metavar)
        for field, (name, text, metavar) in _TENANT_OPTIONS.items()
    ]
    for option in reversed((*tenant, *_SETTINGS_OPTIONS)):
        command = option(command)
    return command


_INSECURE_HTTP = _option(
    "--insecure-http",
    "is_insecure",
    "Allow http:// to other machines: whoever is on the way can read the token.",
    is_flag=True,
)


class _MountCommand(click.Command):
    """A command whose options can also be given as one ``-o`` list, see mount(8)."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put what ``-o`` stands for in front, so that other options win over it."""
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        lists = given.get("mount_options", [])
        explicit = {name for each in self.params if each.name in given for name in each.opts}
        stands_for = [
            each
            for text in lists
            for each in arguments_of(text, takes_value(self))
            if each.partition("=")[0] not in explicit
        ]
        return super().parse_args(ctx, [*stands_for, *args])


def takes_value(command: click.Command) -> Mapping[str, bool]:
    """The long options of a command without their dashes, and whether they take a value."""
    return {
        name.removeprefix("--").replace("-", "_"): not (option.is_flag or option.count)
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--") and name != "--help"
    }


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="invoicefs")
def cli() -> None:
    """Mount the billing invoices of an F5 Distributed Cloud tenant as a read-only folder."""


@cli.command(cls=_MountCommand)
@click.argument("mount_point", metavar="MOUNTPOINT", type=_PATH)
@_mount_options
@_INSECURE_HTTP
@_option("--foreground", "is_foreground", "Stay in the foreground.", is_flag=True)
@_option("--log-file", "log_file", "Write the log to this file.", type=_PATH)
@click.option(
    "-v",
    "--verbose",
    "verbosity",
    count=True,
    envvar="INVOICEFS_VERBOSE",
    show_envvar=True,
    help="Log every API call; with -vv every file operation, too.",
)
@click.option(
    "-o",
    "mount_options",
    metavar="OPTION[=VALUE],...",
    multiple=True,
    help="The same options as for mount(8): -o list_ttl=5m,allow_other. Those that all file"
    " systems have, like ro and nofail, are ignored.",
)
@click.pass_context
def mount(
    ctx: click.Context,
    /,
    mount_point: Path,
    is_insecure: bool,
    is_foreground: bool,
    log_file: Path | None,
    verbosity: int,
    mount_options: tuple[str, ...],  # noqa: ARG001 -- has become other options
    **fields: Any,
) -> None:
    """Mount a tenant on the empty folder MOUNTPOINT.

    Returns when the folder is usable, and goes on in the background. You are let in by an API
    token or a client certificate: from the options, from INVOICEFS_TOKEN, from the variables of
    other clients (F5XC_*, VOLT_*), from ~/.vesconfig, or a token from a prompt.
    """
    from invoicefs import logs
    from invoicefs.credentials import read_credentials
    from invoicefs.mount import mount as mount_tenant

    logs.configure(
        is_foreground=is_foreground,
        log_file=log_file.absolute() if log_file else None,
        verbosity=verbosity,
    )
    call: _Call = ctx.obj
    choice = choose(_family_of_options(ctx), call.secrets, may_be_unencrypted=is_insecure)
    settings = _settings(choice.url, fields)
    credentials = read_credentials(choice, _ask if sys.stdin.isatty() else None)
    say = functools.partial(_say, str(ctx.find_root().info_name))
    origins = f"The URL is from {choice.url_origin}, with {credentials.description}."
    if credentials.ca_bundle:
        origins += f" Trusted is {credentials.ca_bundle}."
    log.info("%s", origins)
    if verbosity and not is_foreground:  # whose log goes elsewhere
        say(origins)
    for file in credentials.open_files:
        say(f"Others on this machine can read or change {file}: chmod 600 {file}")
    if call.helper and call.helper.is_fake:
        return
    mount_tenant(
        settings,
        credentials,
        str(mount_point.absolute()),
        source=call.helper.source if call.helper else settings.url,
        is_foreground=is_foreground,
        warn=say,
    )


@cli.command()
@click.argument("mount_point", metavar="MOUNTPOINT", type=_PATH)
@click.option("--lazy", is_flag=True, help="Detach now, end when nothing uses it any more.")
def umount(mount_point: Path, lazy: bool) -> None:
    """Unmount MOUNTPOINT."""
    from invoicefs.mountpoint import unmount

    unmount(str(mount_point.absolute()), lazy=lazy)


_CACHE_DIR = _option(
    "--cache-dir",
    "cache_dir",
    "What was given to the mount, where the mount was made without a login.",
    type=_PATH,
)


@cli.command()
@click.argument("mount_point", metavar="[MOUNTPOINT]", type=_PATH, required=False)
@click.option("--json", "is_json", is_flag=True, help="Print JSON, an array of all mounts.")
@_CACHE_DIR
def status(mount_point: Path | None, is_json: bool, cache_dir: Path | None) -> None:
    """Show what a mount does, or all of yours: calls, downloads, and what went wrong lately.

    Asks the mounts themselves; no API call is made.
    """
    import json

    from invoicefs.questions import all_statuses, status_of
    from invoicefs.status_screen import screen

    found = (status_of(str(mount_point), cache_dir),) if mount_point else all_statuses(cache_dir)
    if is_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo("\n\n".join(map(screen, found)) or "You have mounted nothing.")


@cli.command()
@click.argument("paths", metavar="PATH...", type=_PATH, nargs=-1, required=True)
@_CACHE_DIR
@click.pass_context
def fetch(ctx: click.Context, /, paths: tuple[Path, ...], cache_dir: Path | None) -> None:
    """Download all invoices below PATH... now, several at one time.

    What the mount has already costs no call. Ends with 1 where something could not be had; the same
    command again goes on from there.
    """
    from invoicefs import fetching, questions

    def why(path: str) -> str | None:
        return questions.why(path, cache_dir)

    parallel = min(questions.status_of(str(path), cache_dir)["calls"]["parallel"] for path in paths)
    found = fetching.find(map(str, paths), why)
    failures = list(found.failures)
    fetched = fetching.fetch(found.missing, parallel, why)
    failures += [each for each in _with_progress(fetched, len(found.missing)) if each.failure]
    for each in failures:
        click.echo(f"{each.path}: {each.failure}", err=True)
    count = len(found.missing) + len(found.failures) - len(failures)
    click.echo(f"{count} fetched, {found.present_count} were there, {len(failures)} failed.")
    ctx.exit(1 if failures else 0)


def _with_progress(fetched: "Iterator[Fetched]", count: int) -> "Iterator[Fetched]":
    """The same, with a bar on a terminal and a line for each tenth elsewhere."""
    size_bytes = 0

    def so_far(_: object) -> str:
        return config.format_size_bytes(size_bytes // config.KIB * config.KIB)

    if count == 0:
        return
    if not sys.stdout.isatty():
        for number, each in enumerate(fetched, start=1):
            size_bytes += each.size_bytes
            if number * 10 // count > (number - 1) * 10 // count:
                click.echo(f"{number} of {count}, {so_far(None)}")
            yield each
        return
    with click.progressbar(fetched, count, item_show_func=so_far, show_pos=True) as bar:
        for each in bar:
            size_bytes += each.size_bytes
            yield each


@cli.command()
@click.argument("path", type=_PATH, default=".")
@_CACHE_DIR
def refresh(path: Path, cache_dir: Path | None) -> None:
    """Ask the API for the lists again now, and for unfinished invoices when they are opened next.

    For the namespace that PATH is in, or for all that have been listed; without PATH for the folder
    that you are in.
    """
    from invoicefs.questions import refresh as refresh_path

    refresh_path(str(path), cache_dir)


@cli.command()
@_mount_options
@_INSECURE_HTTP
@click.pass_context
def doctor(ctx: click.Context, /, is_insecure: bool, **fields: Any) -> None:
    """Check all that a mount needs, and say how to mend what is amiss.

    Takes the same options and variables as mount. Ends with 1 where something is amiss.
    """
    from invoicefs import doctor as checks
    from invoicefs.credentials import read_credentials

    is_well = True

    def tell(findings: "Iterable[checks.Finding]") -> None:
        nonlocal is_well
        for each in findings:
            is_well = is_well and each.is_well
            click.echo(f"{'✓' if each.is_well else '✗'} {each.words}")

    tell(checks.of_machine())
    try:
        choice = choose(_family_of_options(ctx), ctx.obj.secrets, may_be_unencrypted=is_insecure)
        credentials = read_credentials(choice, _ask if sys.stdin.isatty() else None)
        settings = _settings(choice.url, fields)
    except UserError as error:
        tell([checks.Finding(False, str(error))])
    else:
        tell([checks.Finding(True, f"the URL is from {choice.url_origin}")])
        tell(checks.of_tenant(settings, credentials))
    ctx.exit(0 if is_well else 1)


@cli.group()
def cache() -> None:
    """Look after the stores on disk, with and without mounts that use them."""


def _store_options(command: Command) -> Command:
    for option in (
        click.option("--url", help="Only the store of this tenant."),
        _option("--cache-dir", "cache_dir", "Parent folder of the stores.", type=_PATH),
    ):
        command = option(command)
    return command


def _chosen_stores(cache_dir: Path | None, url: str | None) -> tuple[Path, ...]:
    from invoicefs.upkeep import stores

    normalised = config.normalise_url(url, may_be_unencrypted=True) if url else None
    found = stores(cache_dir or config.default_cache_dir(), normalised)
    if not found:
        click.echo(f"There is no store in {cache_dir or config.default_cache_dir()}.")
    return found


@cache.command()
@_store_options
def info(cache_dir: Path | None, url: str | None) -> None:
    """Show where the stores are, and what they take."""
    from invoicefs.upkeep import usage

    for each in map(usage, _chosen_stores(cache_dir, url)):
        click.echo(
            f"{each.folder}: {each.pdf_count} invoices in {_rounded(each.pdf_bytes)}, "
            f"{_rounded(each.size_bytes)} with lists and sizes"
        )


@cache.command()
@click.option("--dry-run", "is_dry", is_flag=True, help="Remove nothing.")
@_store_options
@click.pass_context
def verify(ctx: click.Context, /, cache_dir: Path | None, url: str | None, is_dry: bool) -> None:
    """Check every stored invoice, and remove damaged ones: they are downloaded again.

    Ends with 1 where some were damaged.
    """
    from invoicefs.upkeep import verify as verify_store

    is_whole = True
    for folder in _chosen_stores(cache_dir, url):
        verdict = verify_store(folder, is_dry=is_dry)
        is_whole = is_whole and not verdict.damaged
        fate = "damaged" if is_dry else "damaged and removed"
        click.echo(f"{folder}: {verdict.whole} invoices are whole, {verdict.damaged} {fate}")
    ctx.exit(0 if is_whole else 1)


@cache.command()
@click.option("--all", "everything", is_flag=True, help="Forget lists, sizes and dates, too.")
@click.option(
    "--dry-run", "is_dry", is_flag=True, help="Say what would be freed, and free nothing."
)
@_store_options
def clear(cache_dir: Path | None, url: str | None, everything: bool, is_dry: bool) -> None:
    """Remove all stored invoices: they are downloaded again when they are opened.

    Lists, sizes and dates stay, so that backups see the same files, unless --all is given.
    """
    from invoicefs.upkeep import clear as clear_store
    from invoicefs.upkeep import usage

    for before in map(usage, _chosen_stores(cache_dir, url)):
        size_bytes, verb = before.size_bytes if everything else before.pdf_bytes, "would free"
        if not is_dry:
            clear_store(before.folder, everything=everything)
            size_bytes, verb = before.size_bytes - usage(before.folder).size_bytes, "freed"
        click.echo(f"{before.folder}: {verb} {_rounded(size_bytes)}, {before.pdf_count} invoices")


def _rounded(size_bytes: int) -> str:
    for unit, factor in (("GiB", config.GIB), ("MiB", config.MIB), ("KiB", config.KIB)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"


@cli.command()
@click.argument("mount_point", metavar="[MOUNTPOINT]", type=_PATH, required=False)
@click.option("--once", is_flag=True, help="Unmount and end after the tour.")
def demo(mount_point: Path | None, once: bool) -> None:
    """Mount sample invoices from an embedded API server, and show them around.

    Needs no account. Without MOUNTPOINT a temporary folder is used.
    """
    from invoicefs.demo import run_demo

    run_demo(mount_point.absolute() if mount_point else None, is_once=once, say=click.echo)


def _family_of_options(ctx: click.Context) -> Family:
    """What the command line says of the tenant; its variables are left to `families`."""
    call: _Call = ctx.obj
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
    return Family.of(given, names, is_ours=True)


def _settings(url: str, options: dict[str, Any]) -> Settings:
    """The settings from the options that were given; the others keep their defaults."""
    given = {name: options[name] for name in _DEFAULTS.keys() & options.keys() - {"url"}}
    given = {name: value for name, value in given.items() if value is not None}
    given["statuses"] = frozenset(given["statuses"])
    given["fetch"] = Fetch(given["fetch"])
    given.setdefault("max_wait_s", min(_DEFAULTS["max_wait_s"], given["timeout_s"]))
    if "cache_dir" in given:
        given["cache_dir"] = given["cache_dir"].absolute()
    return Settings(url, **given)


def _ask(what: str) -> str:
    secret: str = click.prompt(what, hide_input=True, err=True)
    return secret


def _say(name: str, sentence: str) -> None:
    click.echo(f"{name}: {sentence}", err=True)
