"""What an exception of the HTTP stack means: it is judged by its innermost reason.

The libraries wrap one reason in up to four exceptions of their own. The reason itself is one of
the standard library, so nothing here depends on how they wrap it, nor on the text of an error:
texts hold object addresses, and words that a server made up.
"""

import errno
import http.client
import ssl
from collections.abc import Iterator

from invoicefs.api.connections import NotGiven, ProxyUnreachable
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

# What a server says of our certificate, by the names of alerts in RFC 8446, 6.2; some have the
# version of TLS in front.
_ALERTS = {
    "ALERT_CERTIFICATE_REQUIRED": "the server asks for a client certificate: give --p12 or --cert",
    "ALERT_HANDSHAKE_FAILURE": "the server refuses the connection: it may ask for a client"
    " certificate (--p12 or --cert)",
    "ALERT_CERTIFICATE_EXPIRED": "the server says that the client certificate has expired",
    "ALERT_CERTIFICATE_REVOKED": "the server says that the client certificate was revoked",
    "ALERT_UNKNOWN_CA": "the server does not trust the client certificate",
    "ALERT_BAD_CERTIFICATE": "the server does not accept the client certificate",
    "ALERT_CERTIFICATE_UNKNOWN": "the server does not accept the client certificate",
}


def translated(error: Exception) -> NoAnswer:
    """The exception of the domain that says the same as a foreign one, in words."""
    if type(error) is OSError and error.errno is None:
        # Bare, it comes from requests itself: the bundle of certificates cannot be found.
        return UntrustedServer(str(error))
    kind, words = _judged(error)
    return kind(words)


def _judged(error: BaseException) -> tuple[type[NoAnswer], str]:
    chain = tuple(_chain(error))
    if any(isinstance(each, ProxyUnreachable) for each in chain):
        return Unreachable, "no connection to the proxy"
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
            # Those that Python itself raises have no reason.
            return UntrustedServer, _words_of_alert(getattr(failure, "reason", None) or "")
        case TimeoutError():
            return Unreachable, "nobody answers at its address"
        case OSError(strerror=str(words)):
            return Unreachable, f"no connection: {words}"
        case http.client.IncompleteRead():
            return _LOST
        case NotHttp() as failure:
            return UnusableAnswer, f"the answer {failure}"
        case NotGiven() | OSError():
            return Unreachable, "no connection is given"  # by a proxy, which has its own words
        case http.client.HTTPException():
            return UnusableAnswer, "the answer is not HTTP"
        case _:
            return UnusableAnswer, "the answer cannot be read"


def _words_of_alert(why: str) -> str:
    for alert, words in _ALERTS.items():
        if why.endswith(alert):
            return words
    return f"there is no TLS connection ({why or 'for no given reason'})"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that it wraps, the innermost one at the end."""
    yield error
    candidates = (getattr(error, "reason", None), *error.args, error.__cause__)
    inner = next((each for each in candidates if isinstance(each, BaseException)), None)
    if inner is not None:
        yield from _chain(inner)
