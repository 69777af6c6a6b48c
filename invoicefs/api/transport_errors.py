"""Translates exceptions of the HTTP stack, by their innermost cause.

The libraries wrap a cause in up to four exceptions of their own. The cause itself is an exception
of the standard library, except for one timeout of urllib3 1, so nothing here depends on how it is
wrapped, nor on the text of an error, which may contain object addresses and text from the server.
"""

import errno
import http.client
import ssl
from collections.abc import Iterator
from http import HTTPStatus

from invoicefs.api.connections import URLLIB3_TIMEOUT, ProxyRefused, ProxyUnreachable
from invoicefs.api.framing import NotHttp
from invoicefs.errors import (
    NoResponse,
    OutOfDescriptors,
    OutOfMemory,
    Unreachable,
    UntrustedServer,
    UnusableResponse,
)

_LOST = Unreachable, "the connection was lost"

# TLS alerts about the client certificate, by their names in RFC 8446, 6.2; OpenSSL puts the version
# of TLS before some of them.
_ALERTS = {
    "ALERT_CERTIFICATE_REQUIRED": "the server requires a client certificate: give --p12 or --cert",
    "ALERT_HANDSHAKE_FAILURE": "the server refuses the connection: it may require a client"
    " certificate (--p12 or --cert)",
    "ALERT_CERTIFICATE_EXPIRED": "the server says that the client certificate has expired",
    "ALERT_CERTIFICATE_REVOKED": "the server says that the client certificate was revoked",
    "ALERT_UNKNOWN_CA": "the server does not trust the client certificate",
    "ALERT_BAD_CERTIFICATE": "the server does not accept the client certificate",
    "ALERT_CERTIFICATE_UNKNOWN": "the server does not accept the client certificate",
}


def translated(error: Exception) -> NoResponse:
    """Return the domain's exception for one of the HTTP stack, with a message for users."""
    if type(error) is OSError and error.errno is None:
        # A bare `OSError` comes from requests itself, if the CA bundle cannot be found.
        return UntrustedServer(str(error))
    kind, words = _classified(error)
    return kind(words)


def _classified(error: BaseException) -> tuple[type[NoResponse], str]:
    chain = tuple(_chain(error))
    for link in chain:
        match link:
            case ProxyUnreachable():
                return Unreachable, "the proxy cannot be reached"
            case ProxyRefused(status=status):
                return Unreachable, _words_of_proxy(status)
    match chain[-1]:
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return OutOfDescriptors, "this machine allows no more open files at the moment"
        case OSError(errno=errno.ENOMEM | errno.ENOBUFS):
            return OutOfMemory, "this machine has no more memory at the moment"
        case ssl.SSLCertVerificationError(verify_message=words):
            why = words.removesuffix(".")  # which OpenSSL writes after some of them
            return UntrustedServer, f"the server's certificate is not trusted: {why}"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | ConnectionResetError():
            return _LOST
        case ssl.SSLError() as failure:
            # An error that Python itself raises has no reason.
            return UntrustedServer, _words_of_alert(getattr(failure, "reason", None) or "")
        case TimeoutError() | URLLIB3_TIMEOUT():
            return Unreachable, "the address of the server does not respond"
        case OSError(strerror=str(words)):
            return Unreachable, f"no connection: {words}"
        case http.client.IncompleteRead():
            return _LOST
        case NotHttp() as failure:
            return UnusableResponse, f"the response {failure}"
        case OSError():
            return Unreachable, "the connection is refused"
        case http.client.HTTPException():
            return UnusableResponse, "the response is not HTTP"
        case _:
            return UnusableResponse, "the response cannot be read"


def _words_of_alert(why: str) -> str:
    for alert, words in _ALERTS.items():
        if why.endswith(alert):
            return words
    return f"TLS cannot be established ({why or 'no reason is given'})"


def _words_of_proxy(status: int | None) -> str:
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return "the proxy requires a valid user name and password in its URL (status 407)"
    return "the proxy refuses the connection" + (f" (status {status})" if status else "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and those that it wraps, the innermost one last."""
    yield error
    candidates = (getattr(error, "reason", None), *error.args, error.__cause__)
    inner = next((found for found in candidates if isinstance(found, BaseException)), None)
    if inner is not None:
        yield from _chain(inner)
