"""No secret appears in anything that the program writes or shows."""

import base64
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import quote

import pytest

from invoicefs.sandbox import Endpoint, Fault, Sandbox, faults
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.planted_secrets import Trace, check, traces_of_files, traces_of_processes
from tests.mount.support.programs import run
from tests.mount.support.tenants import NAMESPACE, file_name, invoice, tenant

TOKEN = "Tok3n+planted/Tok3n=planted"
PDF_MARK = b"planted-content-of-an-invoice"
INVOICES = tuple(invoice(number) for number in range(8))


def traces_of_attributes(mount: Mount) -> list[Trace]:
    folder = mount / NAMESPACE
    listed = run("getfattr", "-d", *(folder / file_name(item) for item in INVOICES))
    errors = [
        run("getfattr", "-n", "user.invoicefs.error", folder / file_name(item)) for item in INVOICES
    ]
    return [Trace("an attribute", ended.out + ended.err.encode()) for ended in (listed, *errors)]


def echo_secret(sandbox: Sandbox, secret: str) -> None:
    """Make the server repeat a secret, and part of an invoice, wherever it can."""
    content = base64.b64encode(PDF_MARK).decode()
    elsewhere = f"https://elsewhere.invalid/{secret}/{quote(secret, safe='')}?token={secret}"
    behaviours = [
        faults.status(500, f"no {secret} today"),
        faults.reply(403, f'{{"message": "bad APIToken {secret}"}}'.encode()),
        faults.redirect(f"/{quote(secret, safe='')}/{secret}?token={secret}"),
        faults.redirect(elsewhere),
        faults.reply(503, secret.encode(), {"X-Request-Id": f"id-of-{secret}"}),
        faults.json_body({"pdf": PDF_MARK.decode()}),
        faults.json_body({"pdf": content}),
        faults.reply(200, b'{"pdf": "' + content.encode()),
    ]
    for sample, behaviour in zip(INVOICES, behaviours, strict=True):
        sandbox.inject(Fault(behaviour, Endpoint.PDF, name=sample.name))
    odd = {"name": INVOICES[0].name, "status": f"?{secret}", "amount": secret, "active": [secret]}
    sandbox.inject(Fault(faults.json_body({"invoices": [odd]}), Endpoint.INVOICES, times=1))


@pytest.fixture
def variables(tmp_path: Path) -> Mapping[str, str]:
    """The extra variables of every command: the token, and a folder to search afterwards."""
    (tmp_path / "tmp").mkdir()
    return {"TMPDIR": str(tmp_path / "tmp"), "INVOICEFS_TOKEN": TOKEN}


@pytest.fixture
def planted(tmp_path: Path, variables: Mapping[str, str]) -> Iterator[Mounts]:
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(tenant(*INVOICES), token=TOKEN))
        mounts = Mounts(sandbox, tmp_path, variables=variables)
        yield stack.enter_context(closing(mounts))


@pytest.mark.promise(
    "Neither token nor key, password or invoice is in an argument, the environment of a "
    "process, the log, the status, an attribute or a temporary file."
)
@pytest.mark.parametrize("source", ["variable", "file"])
def test_neither_token_nor_invoice_leaks_outside_the_cache(
    planted: Mounts, tmp_path: Path, source: str
) -> None:
    token_file = tmp_path / "home" / "token"
    token_file.parent.mkdir()
    token_file.write_text(TOKEN)
    token_file.chmod(0o600)
    options = ["--token-file", str(token_file)] if source == "file" else []
    echo_secret(planted.sandbox, TOKEN)
    options += ["-vv", "--xattr", "--max-wait", "0s"]
    mount = planted.mount(*options, words="with the token")

    traces = traces_of_processes(mount)
    traces += [
        Trace("the output of cat", run("cat", mount / NAMESPACE / file_name(item)).err.encode())
        for item in INVOICES
    ]
    planted.sandbox.heal()
    traces += [*traces_of_attributes(mount), *traces_of_processes(mount)]
    traces += traces_of_files(tmp_path / "tmp")
    shown = b"".join(
        planted.command("status", *arguments, mount.path).good().out
        for arguments in ([], ["--json"])
    )
    traces.append(Trace("status", shown))
    planted.umount(mount)
    token_file.unlink()
    logged = Trace("the log", mount.log.read_bytes())

    assert b"GET " in logged.content
    check([*traces, logged, *traces_of_files(tmp_path / "tmp")], TOKEN.encode(), PDF_MARK)
    check(traces_of_files(tmp_path), TOKEN.encode())


@pytest.mark.parametrize("where", ["token", "URL", "password"])
def test_an_unusable_secret_is_not_repeated(
    planted: Mounts, where: str, variables: Mapping[str, str]
) -> None:
    broken = {
        "token": {"INVOICEFS_TOKEN": f"{TOKEN} {TOKEN}"},
        "URL": {"INVOICEFS_URL": f"https://me:{TOKEN}@acme.example"},
        "password": {"INVOICEFS_P12": "/etc/hostname", "INVOICEFS_P12_PASSWORD": TOKEN},
    }[where]

    ended = planted.command(
        "mount", "-vv", planted.new_path(), env={**variables, "INVOICEFS_TOKEN": None, **broken}
    )

    assert ended.code in (1, 2)
    check([Trace("stderr", ended.err.encode())], TOKEN.encode())


def test_an_unexpected_failure_is_logged_without_secrets(planted: Mounts, tmp_path: Path) -> None:
    """The log has its traceback, at the highest verbosity."""
    source = """if True:
        import sys
        from invoicefs.api import client as api
        from invoicefs import cli
        def fail(reply, *_):
            headers = dict(reply.headers)
            raise RuntimeError("planted failure")
        api._body = fail
        cli.main()
    """
    log = tmp_path / "failure.txt"
    arguments = ("mount", "-vv", "--log-file", log, "--max-wait", "0s", planted.new_path())
    ended = run(sys.executable, "-c", source, *arguments, env=planted.environment, cwd=Path("/"))

    content = log.read_bytes()
    assert b"planted failure" in content
    assert ended.code == 1
    check([Trace("the log", content), Trace("stderr", ended.err.encode())], TOKEN.encode())
