"""Client certificates, and CA bundles.

A private key is never written to disk unencrypted: OpenSSL only reads certificates from files, so
the key of a P12 bundle reaches it through a file in memory, and is encrypted there, too.

The only importer of ``cryptography``, which is in the extra ``p12``. PEM files work without it.
"""

import os
import secrets
import ssl
import sys
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from invoicefs.credentials.secret_files import CA_BUNDLE_BYTES, SECRET_BYTES, read_file
from invoicefs.errors import UserError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12KeyAndCertificates
    from cryptography.x509 import Certificate


class PasswordNeeded(UserError):
    """A bundle needs a password, and none was given."""


RENEWAL_HINT = "make a new one in the console under Personal Management, Credentials"


def load_pem(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return a TLS context from PEM files; the key may be in the file of the certificate.

    The context trusts no server yet. Raises `UserError` if the files cannot be used. An expired
    certificate is detected if the extra ``p12`` is installed; otherwise the server reports it.
    """
    for file in filter(None, (certificate, key)):
        _read(file)  # OpenSSL does not say which file is wrong
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asked_for_password = False

    def no_password() -> str:
        nonlocal asked_for_password
        asked_for_password = True
        return ""

    try:
        context.load_cert_chain(certificate, key, no_password)
    except (ssl.SSLError, ValueError) as error:
        if asked_for_password:
            raise UserError(
                f"The key in {key or certificate} needs a password: make a P12 bundle from it "
                "(openssl pkcs12 -export), and give that with --p12."
            ) from None
        files = f"{certificate} with the key in {key}" if key else str(certificate)
        raise UserError(f"The certificate {files} cannot be used: {_why(error)}.") from None
    _check_time_of_pem(certificate)
    return context


def load_p12(bundle: Path, password: str | None) -> ssl.SSLContext:
    """Return a TLS context from the file of a P12 bundle; see `load_p12_content`."""
    return load_p12_content(_read(bundle), str(bundle), password)


def load_p12_content(content: bytes, bundle: str, password: str | None) -> ssl.SSLContext:
    """Return a TLS context from a P12 bundle (PKCS #12, RFC 7292).

    `bundle` names it in messages. The context trusts no server yet. Raises `UserError` if the
    bundle cannot be used, the password is wrong, or the certificate has expired.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import pkcs12
        from cryptography.x509 import InvalidVersion
    except ImportError:
        raise UserError(
            f"The P12 bundle {bundle} needs another package: "
            f"{sys.executable} -m pip install cryptography, or apt install python3-cryptography."
        ) from None
    try:
        with warnings.catch_warnings(action="ignore"):  # it may be BER instead of DER
            found = pkcs12.load_pkcs12(content, None if password is None else password.encode())
    except (ValueError, UnsupportedAlgorithm, InvalidVersion):
        if password is None:
            raise PasswordNeeded(f"{bundle} needs a password, or is not a P12 bundle.") from None
        raise UserError(
            f"{bundle} cannot be opened with this password, or is not a P12 bundle."
        ) from None
    if found.key is None or found.cert is None:
        raise UserError(f"The P12 bundle {bundle} has no certificate with its private key.")
    _check_time(found.cert.certificate, bundle)
    try:
        return _context_of(found)
    except (ssl.SSLError, ValueError) as error:
        raise UserError(f"The certificate in {bundle} cannot be used: {_why(error)}.") from None


def check_ca_bundle(bundle: Path) -> None:
    """Raise `UserError` unless a file contains certificates to trust."""
    _read(bundle, CA_BUNDLE_BYTES)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(ssl.SSLError):
        context.load_verify_locations(bundle)
        if context.cert_store_stats()["x509"]:  # it may have nothing but a revocation list
            return
    raise UserError(f"The CA bundle {bundle} has no certificates in PEM format.")


def _context_of(bundle: "PKCS12KeyAndCertificates") -> ssl.SSLContext:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
    )

    assert bundle.cert is not None
    assert bundle.key is not None
    password = secrets.token_hex().encode()
    chain = [link.certificate for link in (bundle.cert, *bundle.additional_certs)]
    key = bundle.key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with open(os.memfd_create("certificate"), "wb", buffering=0) as file:
        file.write(b"".join(link.public_bytes(Encoding.PEM) for link in chain) + key)
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=password)
    return context


def _check_time_of_pem(file: Path) -> None:
    # If `cryptography` rejects a certificate that OpenSSL accepts, the server decides.
    with suppress(ImportError):
        from cryptography.x509 import InvalidVersion, load_pem_x509_certificate

        with suppress(ValueError, InvalidVersion), warnings.catch_warnings(action="ignore"):
            _check_time(load_pem_x509_certificate(_read(file)), file)


def _check_time(certificate: "Certificate", file: Path | str) -> None:
    now = datetime.now(UTC)
    if now >= (end := _time_of(certificate, "not_valid_after")):
        raise UserError(f"The certificate in {file} expired on {end:%Y-%m-%d}: {RENEWAL_HINT}.")
    if now < (begin := _time_of(certificate, "not_valid_before")):
        raise UserError(
            f"The certificate in {file} is not valid before {begin:%Y-%m-%d}: "
            "check the clock of this machine."
        )


def _time_of(certificate: "Certificate", attribute: str) -> datetime:
    # Before version 42, `cryptography` has only this attribute, without a time zone.
    found: datetime | None = getattr(certificate, f"{attribute}_utc", None)
    return found or getattr(certificate, attribute).replace(tzinfo=UTC)


def _read(file: Path, max_bytes: int = SECRET_BYTES) -> bytes:
    return read_file(file, f"the file {file}", max_bytes)


def _why(error: Exception) -> str:
    """Return the reason that OpenSSL gives, like ``KEY_VALUES_MISMATCH``, in words."""
    reason = getattr(error, "reason", None) or "no certificate with its private key"
    return str(reason).lower().replace("_", " ")
