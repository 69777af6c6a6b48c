"""The TLS context of a client, which all its connections share.

urllib3 makes a context for each connection and reads the CA bundle into it (measured: 14 ms of CPU
for 117 certificates, and 0.5 ms for the handshake). If it is given a context, it configures it
again for each connection, although a context must not be changed while other threads use it, see
SSL_CTX_new(3).

Sessions are not resumed. With TLS 1.3 that takes as many round trips, and saves 0.3 ms of CPU for
each connection (measured); but the certificate of the server would not be verified again.

Threading: `_lock` guards every field, and is held while a CA bundle is read, so that connections
that are opened at the same time read it once.
"""

import os
import ssl
import threading
from typing import Any, Final

_PROTOCOLS: Final = ("http/1.1",)


class SharedContext:
    """Stands in for an ``ssl.SSLContext`` that urllib3 uses and configures for each connection.

    It trusts one CA bundle, which is read again if it changes. If there is a `certificate`, which
    is a context with a client certificate, certificates that were removed from the CA bundle stay
    trusted.
    """

    def __init__(self, certificate: ssl.SSLContext | None) -> None:
        self.verify_mode = ssl.CERT_REQUIRED  # urllib3 sets these, and uses them for itself
        self.check_hostname = True
        self._certificate = certificate
        self._lock = threading.Lock()
        self._bundle: tuple[object, ...] | None = None
        self._context: ssl.SSLContext | None = None

    def load_verify_locations(
        self, cafile: str | None = None, capath: str | None = None, _: None = None
    ) -> None:
        """Trust the certificates in a file or folder; raises `OSError` if they cannot be read."""
        bundle = _version(cafile or capath or "")
        with self._lock:
            if bundle != self._bundle:
                self._context = self._trusting(cafile, capath)
                self._bundle = bundle

    def set_alpn_protocols(self, _: list[str]) -> None:
        """Do nothing: the protocols of a context are set before its first connection."""

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Connect with the settings of the context."""
        return self._complete().wrap_socket(*args, **kwargs)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Connect inside another TLS connection, to a proxy."""
        return self._complete().wrap_bio(*args, **kwargs)

    def _complete(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                raise ssl.SSLError("no CA bundle was read")
            return self._context

    def _trusting(self, cafile: str | None, capath: str | None) -> ssl.SSLContext:
        if self._certificate is not None:
            self._certificate.load_verify_locations(cafile, capath)
            if self._context is None:
                self._certificate.set_alpn_protocols(_PROTOCOLS)
            return self._certificate
        context = ssl.create_default_context(cafile=cafile, capath=capath)
        context.hostname_checks_common_name = False  # like urllib3
        context.set_alpn_protocols(_PROTOCOLS)
        return context


def _version(path: str) -> tuple[object, ...]:
    """Return a value that changes with a file, or with the list of files in a folder."""
    status = os.stat(path)
    return path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
