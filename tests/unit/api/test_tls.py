import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from invoicefs.api.tls import SharedContext
from tests.support.certificates import Authority


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The CA bundles that were read, in order."""
    made: list[object] = []
    read = ssl.SSLContext.load_verify_locations

    def record(
        self: ssl.SSLContext, cafile: object = None, *args: object, **kwargs: object
    ) -> None:
        made.append(cafile)
        read(self, cafile, *args, **kwargs)  # type: ignore[arg-type] # as it was given

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", record)
    return made


def without_certificate() -> None:
    return None


def with_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED  # the default of Debian's Python
    return context


EVERY_KIND = pytest.mark.parametrize("certificate", [without_certificate, with_certificate])
MakeCertificate = Callable[[], ssl.SSLContext | None]


def connected(context: SharedContext) -> ssl.SSLContext:
    """Return the context of a connection."""
    return context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="a.example").context


@EVERY_KIND
def test_a_ca_bundle_is_read_once_for_all_connections(
    authority: Authority, reads: list[object], certificate: MakeCertificate
) -> None:
    context = SharedContext("a.example", certificate())
    bundle = str(authority.certificate)
    for _ in range(3):
        context.load_verify_locations(bundle)

    assert reads == [bundle]
    assert connected(context) is connected(context)


@EVERY_KIND
def test_a_changed_ca_bundle_is_read_again(
    authority: Authority, tmp_path: Path, reads: list[object], certificate: MakeCertificate
) -> None:
    bundle, new = tmp_path / "bundle.pem", tmp_path / "new.pem"
    bundle.write_text(authority.certificate.read_text())
    context = SharedContext("a.example", certificate())
    context.load_verify_locations(str(bundle))
    new.write_text(bundle.read_text())
    new.replace(bundle)
    context.load_verify_locations(str(bundle))

    assert reads == 2 * [str(bundle)]


def test_a_folder_of_certificates_is_trusted(tmp_path: Path) -> None:
    context = SharedContext("a.example", None)
    context.load_verify_locations(None, str(tmp_path))

    assert connected(context).cert_store_stats()["x509"] == 0


@EVERY_KIND
def test_nothing_connects_before_a_ca_bundle_is_read(certificate: MakeCertificate) -> None:
    context = SharedContext("a.example", certificate())
    with pytest.raises(OSError, match="missing"):
        context.load_verify_locations("missing.pem")

    with pytest.raises(ssl.SSLError, match="no CA bundle"):
        connected(context)


@EVERY_KIND
def test_every_context_verifies_the_server(
    authority: Authority, certificate: MakeCertificate
) -> None:
    context = SharedContext("a.example", certificate())
    context.verify_mode, context.check_hostname = ssl.CERT_NONE, False  # as urllib3 might
    context.load_verify_locations(str(authority.certificate))

    made = connected(context)
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
    assert not made.hostname_checks_common_name
    assert made.minimum_version >= ssl.TLSVersion.TLSv1_2
