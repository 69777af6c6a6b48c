"""Certificates for tests, made by openssl: self-signed, or issued by an authority.

An `Authority` issues any number of them, with any dates, for servers and for clients:

    authority = Authority(folder)
    server = authority.issue("server", hosts=["IP:127.0.0.1"])
    client = authority.issue("client")
    with Sandbox(tls=server.for_server(clients=authority)) as sandbox: ...

This sandbox accepts clients with `client`: as ``client.p12("password")``, ``client.pem()``, or
``client.certificate`` and ``client.key``. A client has to trust ``authority.certificate``.
"""

import ssl
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

EC: Final = "ec -pkeyopt ec_paramgen_curve:prime256v1"
RSA: Final = "rsa:2048"

_DAY = timedelta(days=1)
_OF_AN_AUTHORITY = (
    "basicConstraints=critical,CA:TRUE",
    "keyUsage=critical,keyCertSign,cRLSign",
    "subjectKeyIdentifier=hash",
)
_OF_END_ENTITY = (
    "basicConstraints=critical,CA:FALSE",
    "subjectKeyIdentifier=hash",
    "authorityKeyIdentifier=keyid",
)
_CONFIGURATION = """
[req]
distinguished_name = any_name
[any_name]
commonName = supplied
[ca]
default_ca = authority
[authority]
database = {folder}/issued
new_certs_dir = {folder}
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any_name
"""


def make_certificate(file: Path, *names: str) -> ssl.SSLContext:
    """Write a self-signed certificate for names like ``IP:127.0.0.1``; return a server's context.

    Clients have to trust the file; the key is beside it.
    """
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    subject = ["-days", "2", "-subj", "/CN=test", "-addext", f"subjectAltName={','.join(names)}"]
    key = file.with_suffix(".pem")
    files = ["-keyout", str(key), "-out", str(file)]
    subprocess.run([*command.split(), *subject, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return context


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, without a password, in PEM files; `name` is its common name.

    `chain` has the certificates of the intermediate authorities.
    """

    name: str
    certificate: Path
    key: Path
    chain: tuple[Path, ...] = ()

    def pem(self) -> Path:
        """Write one PEM file of the certificate, its chain and the key."""
        file = self.certificate.with_suffix(".pem")
        parts = (self.certificate, *self.chain, self.key)
        file.write_text("".join(part.read_text() for part in parts))
        return file

    def p12(self, password: str, *options: str) -> Path:
        """Write all of that as a P12 bundle; `options` are those of ``openssl pkcs12 -export``."""
        file = self.certificate.with_suffix(".p12")
        files = ("-in", self.pem(), "-out", file)
        _openssl("pkcs12 -export", *files, "-passout", f"pass:{password}", *options)
        return file

    def key_as(self, *options: str) -> Path:
        """Write the key in another form; `options` are those of ``openssl pkey``.

        For example ``-traditional``, ``-outform DER``, or ``-aes256 -passout pass:secret``.
        """
        file = self.key.with_suffix(".other")
        _openssl("pkey", "-in", self.key, "-out", file, *options)
        return file

    def for_server(self, clients: "Authority | None" = None) -> ssl.SSLContext:
        """Return a server's context, which requires certificates issued by `clients`, if given.

        With ``verify_mode = ssl.CERT_OPTIONAL`` none is required. With ``maximum_version =
        ssl.TLSVersion.TLSv1_2`` a refused client gets the reason: in TLS 1.3 that is sent after
        the handshake, and may be lost together with the connection.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem())
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients.certificate)
        return context


class Authority:
    """Issues certificates, all of whose files are in a new folder; it is not trusted by default.

    An authority `below` another one is an intermediate authority.
    """

    def __init__(
        self, folder: Path, name: str = "Test Authority", below: "Authority | None" = None
    ) -> None:
        self._folder = folder
        self._count = 0
        folder.mkdir(exist_ok=True)
        (folder / "issued").touch()
        self._configuration = folder / "openssl.cnf"
        self._configuration.write_text(_CONFIGURATION.format(folder=folder))
        self._chain: tuple[Path, ...] = ()
        self._identity = below._signed(name, _OF_AN_AUTHORITY) if below else self._self_signed(name)
        if below:
            self._chain = (self.certificate, *below._chain)

    @property
    def certificate(self) -> Path:
        """The file with its own certificate: a CA bundle for what it issues."""
        return self._identity.certificate

    def issue(
        self,
        name: str,
        *,
        hosts: Sequence[str] = (),
        begin: datetime | None = None,
        end: datetime | None = None,
        key: str = EC,
    ) -> Identity:
        """Issue a certificate; without `begin` and `end` it is valid from yesterday to tomorrow.

        `hosts` are the names of a server, like ``IP:127.0.0.1`` and ``DNS:tenant.invalid``; `key`
        is what ``openssl req -newkey`` takes.
        """
        names = [f"subjectAltName={','.join(hosts)}"] if hosts else []
        return self._signed(name, (*_OF_END_ENTITY, *names), begin, end, key)

    def revocation_list(self) -> Path:
        """Write its certificate revocation list, which is empty."""
        file = self._folder / "revoked.crl"
        files = ("-cert", self.certificate, "-keyfile", self._identity.key, "-out", file)
        _openssl("ca -gencrl -crldays 2 -config", self._configuration, *files)
        return file

    def _self_signed(self, name: str) -> Identity:
        identity = self._new(name)
        extensions = [word for line in _OF_AN_AUTHORITY for word in ("-addext", line)]
        files = ("-keyout", identity.key, "-out", identity.certificate)
        self._request(name, EC, "-x509", "-days", "3650", *extensions, *files)
        return identity

    def _signed(
        self,
        name: str,
        extensions: Sequence[str],
        begin: datetime | None = None,
        end: datetime | None = None,
        key: str = EC,
    ) -> Identity:
        identity = self._new(name)
        request, wanted = (identity.key.with_suffix(suffix) for suffix in (".csr", ".ext"))
        wanted.write_text("\n".join(extensions))
        self._request(name, key, "-keyout", identity.key, "-out", request)
        now = datetime.now(UTC)
        _openssl(
            "ca -batch -notext -config",
            *(self._configuration, "-cert", self.certificate, "-keyfile", self._identity.key),
            *("-startdate", f"{begin or now - _DAY:%Y%m%d%H%M%SZ}"),
            *("-enddate", f"{end or now + _DAY:%Y%m%d%H%M%SZ}"),
            *("-extfile", wanted, "-in", request, "-out", identity.certificate),
        )
        return identity

    def _new(self, name: str) -> Identity:
        self._count += 1
        file = self._folder / f"{self._count}.crt"
        return Identity(name, file, file.with_suffix(".key"), self._chain)

    def _request(self, name: str, key: str, *arguments: str | Path) -> None:
        command = f"req -new -nodes -newkey {key} -config"
        _openssl(command, self._configuration, "-subj", f"/CN={name}", *arguments)


def hide_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package ``cryptography`` look as if it were not installed."""
    loaded = [name for name in sys.modules if name.startswith("cryptography.")]
    for name in ("cryptography", *loaded):
        monkeypatch.setitem(sys.modules, name, None)


def _openssl(command: str, *arguments: str | Path) -> None:
    subprocess.run(["openssl", *command.split(), *arguments], check=True, capture_output=True)
