"""The programs ``invoicefs`` and ``mount.invoicefs``: exceptions become messages and exit codes.

Each command imports the modules that are slow to import, so that ``--help`` is fast.
"""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple, NoReturn

import click

from invoicefs import __version__
from invoicefs.cli.cache import cache
from invoicefs.cli.demo import demo
from invoicefs.cli.doctor import doctor
from invoicefs.cli.fetch import fetch
from invoicefs.cli.fstab import parse_helper_call
from invoicefs.cli.help import help_
from invoicefs.cli.list import list_
from invoicefs.cli.login import login, logout
from invoicefs.cli.mount import mount, umount
from invoicefs.cli.options import Invocation, takes_value
from invoicefs.cli.output import print_message
from invoicefs.cli.refresh import refresh
from invoicefs.cli.status import status
from invoicefs.cli.verify import verify
from invoicefs.credentials.sources import OUR_VARIABLES, take_secrets
from invoicefs.errors import InvoicefsError, UsageError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="invoicefs")
def cli() -> None:
    """Mount the billing invoices of an F5 Distributed Cloud tenant as a read-only folder."""


_MOUNTING = (login, logout, mount, umount)
_INVOICES = (list_, fetch, verify, refresh)
_OTHERS = (status, cache, doctor, demo, help_)
for _command in (*_MOUNTING, *_INVOICES, *_OTHERS):
    cli.add_command(_command)


class _ExitCodes(NamedTuple):
    """The exit statuses for bad usage, a failure, an error of the system, and an interrupt."""

    usage: int
    failure: int
    system: int
    interrupt: int


_OURS = _ExitCodes(usage=2, failure=1, system=1, interrupt=1)
_OF_MOUNT = _ExitCodes(usage=1, failure=32, system=2, interrupt=8)  # see mount(8)


def main() -> NoReturn:
    """Run the command line; a failure is one message on stderr, never a traceback."""
    _run("invoicefs", _OURS, lambda secrets: cli(prog_name="invoicefs", obj=Invocation(secrets)))


def main_of_mount_helper() -> NoReturn:
    """Run ``mount.invoicefs``, which mount(8) runs for ``mount -t invoicefs`` and fstab(5)."""
    _run("mount.invoicefs", _OF_MOUNT, _run_mount_helper)


def _run_mount_helper(secrets: Mapping[str, str]) -> None:
    # The variables of a shell must not affect mounts from fstab, above all INVOICEFS_FOREGROUND.
    for name in [name for name in os.environ if name.startswith("INVOICEFS_")]:
        if name not in OUR_VARIABLES.values():
            del os.environ[name]
    call = parse_helper_call(sys.argv[1:], takes_value(mount))
    arguments = ["mount", *call.arguments, "--url", call.source, "--", call.mount_point]
    cli(
        arguments, prog_name="mount.invoicefs", standalone_mode=False, obj=Invocation(secrets, call)
    )


def _run(name: str, codes: _ExitCodes, run: Callable[[Mapping[str, str]], None]) -> NoReturn:
    def end(code: int, sentence: str) -> NoReturn:
        print_message(name, " ".join(sentence.splitlines()))
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
    except OSError as error:  # no working directory, too many processes, stdout on a full disk
        _give_up_stdout()
        end(codes.system, f"The system reports an error: {error.strerror or error}.")
    sys.exit(0)


def _give_up_stdout() -> None:
    """Discard unwritten output, which would otherwise fail again at exit, with a message."""
    with suppress(OSError):
        sys.stdout.flush()
        return
    null_fd = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_fd, sys.stdout.fileno())
    os.close(null_fd)


def _open_closed_streams() -> None:
    """Open /dev/null in place of standard streams that are closed (``2>&-`` in a crontab).

    Otherwise the first files and pipes that are opened would get their file descriptors.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 # stays open
            setattr(sys, name, stream)
