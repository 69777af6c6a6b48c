"""The command ``invoicefs doctor``."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from invoicefs.cli.mount import mount
from invoicefs.cli.options import INSECURE_HTTP, examples, mount_options, settings_of
from invoicefs.cli.output import print_json, print_lines, prompt_for_secret
from invoicefs.cli.tenants import choose_tenant, ignored_variables
from invoicefs.errors import UserError
from invoicefs.urls import URL_EXAMPLE

if TYPE_CHECKING:
    from invoicefs.mount.doctor import Finding


@click.command(
    epilog=examples(f"invoicefs doctor --url {URL_EXAMPLE} --token-file ~/.invoicefs-token")
)
@mount_options
@INSECURE_HTTP
@click.option("--json", "is_json", is_flag=True, help="Print a JSON array, one object per check.")
@click.pass_context
def doctor(ctx: click.Context, /, is_json: bool, **_: Any) -> None:
    """Check everything that a mount needs, and say how to fix each problem.

    Accepts the options of mount and their variables, except those of the mount process: -o, -v,
    -q, --foreground and --log-file. Exits with status 1 if there is a problem.
    """
    from invoicefs.credentials.load import read_credentials
    from invoicefs.mount import doctor as checks
    from invoicefs.mount import logs

    logs.configure(is_foreground=True, log_file=None, verbosity=0)
    found: list[Finding] = []
    good, bad = _marks()

    def show(findings: "Iterable[Finding]") -> None:
        for finding in findings:
            found.append(finding)
            if not is_json:
                print_lines(f"{good if finding.is_ok else bad} {finding.words}")

    show(checks.check_machine())
    try:
        choice, options = choose_tenant(ctx)
        credentials = read_credentials(choice, prompt_for_secret if sys.stdin.isatty() else None)
        settings = settings_of(choice.url, options)
    except UserError as error:
        show([checks.Finding(False, str(error))])
    else:
        show([checks.Finding(True, f"the URL is from {choice.url_origin}")])
        ignored = ignored_variables(choice.profile, mount) if choice.profile else ()
        show(checks.Finding(False, sentence) for sentence in ignored)
        show(checks.check_tenant_access(settings, credentials))
    if is_json:
        print_json([{"ok": finding.is_ok, "words": finding.words} for finding in found])
    ctx.exit(0 if all(finding.is_ok for finding in found) else 1)


def _marks() -> tuple[str, str]:
    """Return the marks for good and bad lines that this locale can display."""
    try:
        "✓✗".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "ok:", "!!:"
    return "✓", "✗"
