"""What an exception of the HTTP stack means: it is judged by its innermost reason.

The libraries wrap one reason in up to four exceptions of their own. The reason itself is one of
the standard library, so nothing here depends on how they wrap it, nor on the text of an error:
texts hold object addresses, and words that a server made up.
"""

import http.client
import ssl

from invoicefs.errors import NoAnswer, Unreachable, UntrustedServer, UnusableAnswer

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


def translated(error: Exception, *, is_cut_short: bool) -> NoAnswer:
    """The exception of the domain that says the same as a foreign one, in words.

    `is_cut_short` where the library says that an answer ended too early, without a reason.
    """
    if type(error) is OSError:
        # Bare, it comes from requests itself: the bundle of certificates cannot be found.
        return UntrustedServer(str(error))
    kind, words = _judged(_innermost(error), is_cut_short)
    return kind(words)


def _judged(reason: BaseException, is_cut_short: bool) -> tuple[type[NoAnswer], str]:
    match reason:
        case ssl.SSLCertVerificationError():
            return UntrustedServer, f"its certificate is not trusted: {reason.verify_message}"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | ConnectionResetError():
            return _LOST
        case ssl.SSLError():
            why = getattr(reason, "reason", None) or ""  # those that Python itself raises have none
            return UntrustedServer, _words_of_alert(why)
        case TimeoutError():
            return Unreachable, "nobody answers at its address"
        case OSError(strerror=str(words)):
            return Unreachable, f"no connection: {words}"
        case http.client.IncompleteRead():
            return _LOST
        case http.client.HTTPException():
            return UnusableAnswer, "the answer is not HTTP"
        case OSError():
            return Unreachable, "no connection is given"  # by a proxy, which has its own words
        case _ if is_cut_short:
            return _LOST
        case _:
            return UnusableAnswer, "the answer cannot be read"


def _words_of_alert(why: str) -> str:
    for alert, words in _ALERTS.items():
        if why.endswith(alert):
            return words
    return f"there is no TLS connection ({why or 'for no given reason'})"


def _innermost(error: BaseException) -> BaseException:
    """The end of the chain of wrapped exceptions."""
    candidates = (getattr(error, "reason", None), *error.args, error.__cause__)
    inner = next((each for each in candidates if isinstance(each, BaseException)), None)
    return error if inner is None else _innermost(inner)
