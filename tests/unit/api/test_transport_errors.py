"""Exceptions of the HTTP stack are translated, however they are wrapped."""

import errno
import http.client
import socket
import ssl
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invoicefs.api.connections import URLLIB3_TIMEOUT, ProxyRefused, ProxyUnreachable
from invoicefs.api.framing import NotHttp
from invoicefs.api.transport_errors import translated
from invoicefs.errors import (
    NoResponse,
    OutOfDescriptors,
    OutOfMemory,
    Unreachable,
    UntrustedServer,
    UnusableResponse,
)

Wrap = Callable[[Exception], Exception]


class Wrapped(OSError):
    """Stands for the exceptions of the libraries, many of which are subclasses of `OSError`."""

    reason: Exception | None = None


def refused(alert: str | None) -> ssl.SSLError:
    """An alert of the server, by its name in OpenSSL."""
    error = ssl.SSLError(1, "an alert (_ssl.c:1006)")
    if alert is not None:
        error.reason = alert
    return error


def without_shared_cipher() -> ssl.SSLError:
    return refused("SSLV3_ALERT_HANDSHAKE_FAILURE")


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "certificate has expired"
    return error


REASONS: list[tuple[Callable[[], Exception], type[NoResponse]]] = [
    (untrusted, UntrustedServer),
    (without_shared_cipher, UntrustedServer),
    (lambda: ssl.SSLError("Underlying socket has been closed."), UntrustedServer),
    (lambda: ssl.SSLEOFError(8, "EOF occurred"), Unreachable),
    (lambda: ConnectionResetError(104, "Connection reset by peer"), Unreachable),
    (lambda: ConnectionRefusedError(111, "Connection refused"), Unreachable),
    (lambda: socket.gaierror(-2, "Name or service not known"), Unreachable),
    (lambda: TimeoutError("timed out"), Unreachable),
    (lambda: URLLIB3_TIMEOUT("Read timed out. (read timeout=10)"), Unreachable),
    (lambda: http.client.IncompleteRead(b"%PDF"), Unreachable),
    (lambda: http.client.BadStatusLine("\x1b[2J\n"), UnusableResponse),
    (lambda: NotHttp("switches to another protocol"), UnusableResponse),
    (ProxyUnreachable, Unreachable),
    (ProxyRefused, Unreachable),
    (lambda: OSError(errno.EMFILE, "Too many open files"), OutOfDescriptors),
    (lambda: OSError(errno.ENFILE, "Too many open files in system"), OutOfDescriptors),
    (lambda: OSError(errno.ENOMEM, "Cannot allocate memory"), OutOfMemory),
    (lambda: ValueError("of <object at 0x7f00>"), UnusableResponse),
]


def in_its_arguments(error: Exception) -> Exception:
    return Wrapped("Connection aborted.", error)


def as_its_only_argument(error: Exception) -> Exception:
    return Wrapped(error)


def as_its_reason(error: Exception) -> Exception:
    wrapped = Wrapped("Max retries exceeded with url: /")
    wrapped.reason = error
    return wrapped


def as_its_cause(error: Exception) -> Exception:
    wrapped = Wrapped("an error occurred")
    wrapped.__cause__ = error
    return wrapped


wraps = st.lists(
    st.sampled_from([in_its_arguments, as_its_only_argument, as_its_reason, as_its_cause]),
    max_size=6,
)


@pytest.mark.parametrize(("reason", "kind"), REASONS)
@settings(deadline=None, max_examples=40)
@given(wraps=wraps)
def test_the_innermost_cause_decides_however_it_is_wrapped(
    reason: Callable[[], Exception], kind: type[NoResponse], wraps: list[Wrap]
) -> None:
    error = reason()
    for wrap in wraps:
        error = wrap(error)

    meant = translated(error)

    assert type(meant) is kind
    assert str(meant) == str(translated(reason()))
    assert str(meant).isprintable()
    assert "0x" not in str(meant)


def test_the_reason_of_a_certificate_error_does_not_end_the_sentence() -> None:
    error = untrusted()
    error.verify_message = "IP address mismatch, certificate is not valid for '127.0.0.1'."

    assert str(translated(error)).endswith("not valid for '127.0.0.1'")


@pytest.mark.parametrize(
    ("alert", "words"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "the server requires a client certificate"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "it may require a client certificate"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "the client certificate has expired"),
        ("SSLV3_ALERT_CERTIFICATE_REVOKED", "the client certificate was revoked"),
        ("TLSV1_ALERT_UNKNOWN_CA", "does not trust the client certificate"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "does not accept the client certificate"),
        ("SSLV3_ALERT_CERTIFICATE_UNKNOWN", "does not accept the client certificate"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "TLSV1_ALERT_PROTOCOL_VERSION"),
        ("WRONG_VERSION_NUMBER", "WRONG_VERSION_NUMBER"),
        (None, "no reason is given"),
    ],
)
def test_tls_alerts_about_a_client_certificate_are_explained(alert: str | None, words: str) -> None:
    meant = translated(refused(alert))

    assert type(meant) is UntrustedServer
    assert words in str(meant)
    assert ("--p12 or --cert" in str(meant)) == ("require" in words)
