"""Mounts that authenticate with a client certificate, from every credential source."""

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from invoicefs.sandbox import Sandbox
from tests.mount.support.mounts import Environment, Mounts
from tests.mount.support.planted_secrets import Trace, check, traces_of_files, traces_of_processes
from tests.mount.support.programs import run
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant
from tests.support.certificates import Authority, Identity

PASSWORD = "Planted+Pa55word/of=the-bundle"
INVOICE = invoice(1)
TENANT = tenant(INVOICE)

Place = Callable[[Mounts, Identity, Path], Environment]


@pytest.fixture
def server(authority: Authority) -> Iterator[Sandbox]:
    """A server that requires a client certificate."""
    tls = authority.issue("server", hosts=["IP:127.0.0.1"]).for_server(clients=authority)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2  # a refused client gets the reason
    with Sandbox(TENANT, tls=tls) as server:
        yield server


@pytest.fixture
def without_token(server: Sandbox, tmp_path: Path, authority: Authority) -> Iterator[Mounts]:
    """Mounts that trust the server and have no credential yet."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "home").mkdir()
    variables = {
        "TMPDIR": str(tmp_path / "tmp"),
        "INVOICEFS_CA_BUNDLE": str(authority.certificate),
    }
    with closing(CertificateMounts(server, tmp_path, variables=variables)) as mounts:
        yield mounts


class CertificateMounts(Mounts):
    """Mounts without a token in their environment."""

    @property
    def environment(self) -> dict[str, str]:
        found = super().environment
        del found["INVOICEFS_TOKEN"]
        return found


def own_variables(_: Mounts, client: Identity, __: Path) -> Environment:
    return {
        "INVOICEFS_P12": str(client.p12(PASSWORD)),
        "INVOICEFS_P12_PASSWORD": PASSWORD,
    }


def own_pem(_: Mounts, client: Identity, __: Path) -> Environment:
    return {"INVOICEFS_CERT": str(client.certificate), "INVOICEFS_KEY": str(client.key)}


def vesctl(mounts: Mounts, client: Identity, folder: Path) -> Environment:
    texts = {"server-urls": [f"{mounts.sandbox.url}/api"], "p12-bundle": str(client.p12(PASSWORD))}
    (folder / "home" / ".vesconfig").write_text(json.dumps(texts))  # JSON is also YAML
    return {"INVOICEFS_URL": None, "VES_P12_PASSWORD": PASSWORD}


@pytest.mark.promise(
    "Neither token nor key, password or invoice is in an argument, the environment of a "
    "process, the log, the status, an attribute or a temporary file."
)
@pytest.mark.parametrize(
    "place",
    [
        own_variables,
        own_pem,
        vesctl,
    ],
)
def test_a_certificate_from_any_source_opens_invoices_and_leaves_no_trace(
    without_token: Mounts, client: Identity, tmp_path: Path, place: Place
) -> None:
    mounts = without_token
    variables = place(mounts, client, tmp_path)
    path, log = mounts.new_path(), tmp_path / "mount.log"

    ended = mounts.command("mount", "-vv", "--log-file", log, path, env=variables).good()
    mount = mounts.at(path)
    read = run("cat", mount / NAMESPACE / file_name(INVOICE)).good().out
    traces = [*traces_of_processes(mount), *traces_of_files(tmp_path / "tmp")]
    mounts.umount(mount)

    assert ended.out == b""
    assert "with the certificate" in ended.err
    assert ended.err.count("\n") == 1
    assert read == contents(TENANT)[file_name(INVOICE)]
    assert {call.client for call in mounts.sandbox.calls} == {client.name}
    traces += [Trace("stderr", ended.err.encode()), Trace("the log", log.read_bytes())]
    traces += traces_of_files(mounts.cache)
    check(traces, PASSWORD.encode(), *lines_of(client.key))


def lines_of(key: Path) -> list[bytes]:
    """The lines of a PEM file between the first and the last."""
    return key.read_bytes().splitlines()[1:-1]


def refused(mounts: Mounts, **variables: str) -> str:
    ended = mounts.command("mount", mounts.new_path(), env=variables)
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    return ended.err


def test_a_server_that_requires_a_certificate_is_reported(without_token: Mounts) -> None:
    assert "client certificate" in refused(without_token, INVOICEFS_TOKEN="t")
    assert not without_token.sandbox.calls


@pytest.mark.promise("With the extra `p12`, an expired certificate is reported before any request.")
def test_an_expired_certificate_is_an_error_before_any_request(
    without_token: Mounts, authority: Authority
) -> None:
    end = datetime.now(UTC) - timedelta(days=3)
    old = authority.issue("old", begin=end - timedelta(days=9), end=end)
    given = [
        {"INVOICEFS_P12": str(old.p12(PASSWORD)), "INVOICEFS_P12_PASSWORD": PASSWORD},
        {"INVOICEFS_CERT": str(old.pem())},
    ]
    for item in given:
        assert f"expired on {end:%Y-%m-%d}" in refused(without_token, **item)
    assert not without_token.sandbox.calls


def test_a_certificate_rejected_while_mounted_is_named_in_the_log(
    without_token: Mounts, authority: Authority, client: Identity, server: Sandbox
) -> None:
    """Expiry is simulated: the server begins to trust only certificates of another authority."""
    mounts = without_token
    path, log = mounts.new_path(), mounts.folder / "mount.log"
    variables = {"INVOICEFS_CERT": str(client.pem())}
    mounts.command("mount", "--log-file", log, "--max-wait", "0s", path, env=variables).good()
    others = Authority(mounts.folder / "others")
    server.go_away()
    server.tls = authority.issue("server", hosts=["IP:127.0.0.1"]).for_server(clients=others)
    server.tls.maximum_version = ssl.TLSVersion.TLSv1_2
    server.come_back()

    ended = run("cat", path / NAMESPACE / file_name(INVOICE))

    assert "Input/output error" in ended.err
    assert "the server does not trust the client certificate" in log.read_text()
