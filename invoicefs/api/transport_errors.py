"""What an exception of the HTTP stack means, judged by its innermost cause.

The libraries wrap a cause in up to four exceptions of their own. The cause itself is an exception
of the standard library, so nothing here depends on how it is wrapped, nor on the text of an error:
texts have object addresses, and words of the server.
"""

import errno
import http.client
import ssl
from collections.abc import Iterator

from invoicefs.api.connections import ProxyRefused, ProxyUnreachable
from invoicefs.api.framing import NotHttp
from invoicefs.errors import (
    NoAnswer,
    OutOfDescriptors,
    OutOfMemory,
    Unreachable,
    UntrustedServer,
    UnusableAnswer,
)

_LOST = Unreachable, "the connection was lost"

# What a server says about our certificate, by the names of alerts in RFC 8446, 6.2; some have the
# version of TLS in front.
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


def translated(error: Exception) -> NoAnswer:
    """Return the exception of the domain that means the same as a foreign one, in words."""
    if type(error) is OSError and error.errno is None:
        # A bare one comes from requests itself: the bundle of certificates cannot be found.
        return UntrustedServer(str(error))
    kind, words = _judged(error)
    return kind(words)


def _judged(error: BaseException) -> tuple[type[NoAnswer], str]:
    chain = tuple(_chain(error))
    if any(isinstance(link, ProxyUnreachable) for link in chain):
        return Unreachable, "the proxy cannot be reached"
    match chain[-1]:
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return OutOfDescriptors, "this machine allows no more open files just now"
        case OSError(errno=errno.ENOMEM | errno.ENOBUFS):
            return OutOfMemory, "this machine has no more memory just now"
        case ssl.SSLCertVerificationError(verify_message=words):
            return UntrustedServer, f"its certificate is not trusted: {words}"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | ConnectionResetError():
            return _LOST
        case ssl.SSLError() as failure:
            # An error that Python itself raises has no reason.
            return UntrustedServer, _words_of_alert(getattr(failure, "reason", None) or "")
        case TimeoutError():
            return Unreachable, "its address does not respond"
        case OSError(strerror=str(words)):
            return Unreachable, f"no connection: {words}"
        case http.client.IncompleteRead():
            return _LOST
        case NotHttp() as failure:
            return UnusableAnswer, f"the answer {failure}"
        case ProxyRefused() | OSError():
            return Unreachable, "the connection is refused"  # by a proxy, in words of its own
        case http.client.HTTPException():
            return UnusableAnswer, "the answer is not HTTP"
        case _:
            return UnusableAnswer, "the answer cannot be read"


def _words_of_alert(why: str) -> str:
    for alert, words in _ALERTS.items():
        if why.endswith(alert):
            return words
    return f"TLS cannot be established ({why or 'no reason is given'})"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and those that it wraps, the innermost one last."""
    yield error
    candidates = (getattr(error, "reason", None), *error.args, error.__cause__)
    inner = next((found for found in candidates if isinstance(found, BaseException)), None)
    if inner is not None:
        yield from _chain(inner)
