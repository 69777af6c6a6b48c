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
import socket
import ssl
import threading
from typing import Final

_PROTOCOLS: Final = ("http/1.1",)


class SharedContext:
    """Stands in for an ``ssl.SSLContext`` that urllib3 uses and configures for each connection.

    It connects to one host, and trusts one CA bundle, which is read again if it changes. If there
    is a `certificate`, which is a context with a client certificate, certificates that were removed
    from the CA bundle stay trusted.
    """

    def __init__(self, host: str, certificate: ssl.SSLContext | None) -> None:
        self.verify_mode = ssl.CERT_REQUIRED  # urllib3 sets these, and uses them for itself
        self.check_hostname = True
        self._host = host
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

    def wrap_socket(
        self, sock: socket.socket, *, server_hostname: str | None = None
    ) -> ssl.SSLSocket:
        """Connect with the settings of the context."""
        host = self._name_to_verify(server_hostname)
        return self._complete().wrap_socket(sock, server_hostname=host)

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_hostname: str | None = None
    ) -> ssl.SSLObject:
        """Connect inside another TLS connection, to a proxy."""
        host = self._name_to_verify(server_hostname)
        return self._complete().wrap_bio(incoming, outgoing, server_hostname=host)

    def _name_to_verify(self, name: str | None) -> str:
        # Of IP addresses, urllib3 1 gives none, or in a tunnel, those of version 6 in brackets.
        return (name or self._host).strip("[]")

    def _complete(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                raise ssl.SSLError("no CA bundle was read")
            return self._context

    def _trusting(self, cafile: str | None, capath: str | None) -> ssl.SSLContext:
        if self._certificate is not None:
            self._certificate.load_verify_locations(cafile, capath)
            if self._context is None:
                _configure(self._certificate)
            return self._certificate
        context = ssl.create_default_context(cafile=cafile, capath=capath)
        _configure(context)
        return context


def _configure(context: ssl.SSLContext) -> None:
    """Set what urllib3 2 sets in contexts that it makes, and Python does not."""
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(_PROTOCOLS)
    # Debian's Python has no minimum of its own; openssl.cnf may require a later version.
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)


def _version(path: str) -> tuple[object, ...]:
    """Return a value that changes with a file, or with the list of files in a folder."""
    status = os.stat(path)
    return path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def has_only_tls_messages(sock: socket.socket) -> bool:
    """Return whether what has arrived on an idle connection is neither data nor its end.

    A server that speaks TLS 1.3 sends session tickets after the handshake (RFC 8446, 4.6.1); a
    connection that was opened ahead has not read them.
    """
    timeout_s = sock.gettimeout()
    sock.settimeout(0)
    try:
        sock.recv(1)
    except ssl.SSLWantReadError:
        return True
    except OSError:
        return False
    else:
        return False
    finally:
        sock.settimeout(timeout_s)
