"""The tour of ``invoicefs demo``: the embedded server, a real mount, and real programs."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from invoicefs.credentials.sources import OUR_VARIABLES
from invoicefs.errors import UserError
from invoicefs.mount import mountpoint
from invoicefs.sandbox import Endpoint, SampleTenant, Sandbox

Say = Callable[[str], None]

_COMMAND_TIMEOUT_S = 60.0
_TREE_NAMES = 3  # names shown at the beginning, and at the end, of a long folder
_TEXT_LINES = 16


def run_demo(mount_point: Path | None, *, is_once: bool, say: Say) -> None:
    """Mount the sample tenant, show it, and clean up.

    Waits for Ctrl-C, SIGTERM or SIGHUP after the tour, unless `is_once`. Raises `UserError` if the
    demo cannot run.
    """
    if importlib.util.find_spec("fpdf") is None:
        raise UserError(
            "The sample invoices need fpdf2: install invoicefs[demo] with pip or pipx, or"
            " python3-fpdf (Debian 13)."
        )
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="invoicefs-demo-") as work, Sandbox() as sandbox:
        folder = mount_point or Path(work) / "invoices"
        with _existing(folder), _mounted(sandbox, folder, Path(work) / "cache", say):
            _tour(sandbox, folder, Path(work) / "archive", say)
            if not is_once:
                _wait_for_interrupt(folder, say)


def _tour(sandbox: Sandbox, folder: Path, archive: Path, say: Say) -> None:
    say("\nNamespaces are folders, invoices are files:\n")
    for line in _tree(folder):
        say(line)
    say(f"\nListing them made {_requests(sandbox)}.")

    invoice = next(iter(sorted((folder / "system").iterdir(), reverse=True)))
    say(f"\n$ pdftotext -layout {invoice} -")
    say(_text(invoice))

    say(f"\n$ cp -r {folder} {archive}")
    say(_output("cp", "-r", str(folder), str(archive)))
    say(f"\nThe archive now has {_count(archive)} invoices. Two things were refused:")
    say(_refusals(sandbox.tenant))
    say(f"\nSo far that took {_requests(sandbox)}.")

    sandbox.forget_calls()
    again = archive.with_name("archive-again")
    _output("cp", "-r", str(folder), str(again))
    say(f"Copying the {_count(again)} invoices again took {_requests(sandbox)}:")
    say("an invoice that was opened once is read from the cache.")


@contextmanager
def _existing(folder: Path) -> Iterator[None]:
    """Create the folder if it is missing; remove it afterwards if it was created."""
    if folder.exists():
        yield
        return
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        folder.rmdir()


@contextmanager
def _mounted(sandbox: Sandbox, folder: Path, cache: Path, say: Say) -> Iterator[None]:
    """Mount with the command that a user would type, and unmount afterwards."""
    options = ["--url", sandbox.url, "--cache-dir", str(cache), str(folder)]
    say(f"$ invoicefs mount {' '.join(options)}")
    try:
        result = subprocess.run(
            [sys.executable, "-m", "invoicefs", "mount", *options],
            env=_environment(sandbox),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
        if result.returncode != 0:
            raise UserError(result.stderr.strip().removeprefix("invoicefs: "))
        yield
    finally:
        # The mount may have failed, or the user may have unmounted the folder.
        if mountpoint.mount_at(str(folder)) is not None:
            mountpoint.unmount(str(folder), lazy=True)
            say("\nUnmounted; nothing is left behind.")


def _environment(sandbox: Sandbox) -> dict[str, str]:
    """Return our environment without the user's settings for another tenant."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("INVOICEFS_")}
    return {**ours, OUR_VARIABLES["token"]: sandbox.token}


def _wait_for_interrupt(folder: Path, say: Say) -> None:
    try:
        say(f"\nThe folder stays mounted until you press Ctrl-C: {folder}")
        threading.Event().wait()
    except KeyboardInterrupt:
        return


def _tree(folder: Path) -> Iterator[str]:
    yield str(folder)
    for namespace in sorted(folder.iterdir()):
        yield f"  {namespace.name}/"
        try:
            names = sorted(path.name for path in namespace.iterdir())
        except PermissionError as error:
            yield f"    ({error.strerror})"
            continue
        hidden = len(names) - 2 * _TREE_NAMES
        if hidden > 1:
            names[_TREE_NAMES:-_TREE_NAMES] = [f"... and {hidden} more ..."]
        yield from (f"    {name}" for name in names)


def _text(invoice: Path) -> str:
    if shutil.which("pdftotext") is None:
        return "(pdftotext is not installed: apt install poppler-utils)"
    lines = _output("pdftotext", "-layout", str(invoice), "-").splitlines()
    return "\n".join([line for line in lines if line.strip()][:_TEXT_LINES])


def _refusals(tenant: SampleTenant) -> str:
    unpaid = [
        f"  {namespace.name}/{invoice.name}.pdf is listed, but not paid: the API has no PDF of it\n"
        "    yet (404), so opening it fails with 'No such file or directory'."
        for namespace in tenant.namespaces
        for invoice in namespace.invoices
        if invoice.pdf is None
    ]
    forbidden = [
        f"  {namespace.name}/ cannot be listed with this token (403): 'Permission denied'."
        for namespace in tenant.namespaces
        if namespace.forbidden
    ]
    return "\n".join(unpaid + forbidden)


def _requests(sandbox: Sandbox) -> str:
    """Return how many API requests were made, in words."""
    kinds = (
        (Endpoint.NAMESPACES, "for namespaces"),
        (Endpoint.INVOICES, "for listings"),
        (Endpoint.PDF, "for PDFs"),
    )
    counted = [f"{sandbox.count(endpoint)} {words}" for endpoint, words in kinds]
    return f"{sandbox.count()} API requests ({', '.join(counted)})"


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.pdf"))


def _output(*command: str) -> str:
    """Return the output of a program, including errors; failures are part of the tour."""
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_COMMAND_TIMEOUT_S,
        check=False,
    )
    return result.stdout.rstrip()
