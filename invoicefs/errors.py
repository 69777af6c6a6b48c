"""The exceptions of the domain.

They say what happened to an invoice, a listing or a setting, in the words of the domain.
`kernel.errnos` maps them to the errnos that programs get; `api.client` maps HTTP statuses to them.
Every message is a sentence, or part of one, for users.

A request fails with a `NoResponse` or a `Refusal`. A `NoResponse` says nothing about the invoice,
so a cached PDF may be served instead; after a `Refusal` it is not. The last listing is shown after
every failure but `Denied`.
"""

from typing import Final

TIMED_OUT: Final = "no response within the timeout"
MOUNT_IS_ENDING: Final = "the mount is ending"


class InvoicefsError(Exception):
    """The base class of every exception that this package raises on purpose."""


class UserError(InvoicefsError):
    """A setting or this machine prevents an operation; the message says how to fix it."""


class UsageError(UserError):
    """An option or argument has an invalid value (exit status 2)."""


class InvalidSetting(UsageError):
    """A setting has an invalid value. The message begins with its name: ``parallel must be``."""


class StoreUnusable(UserError):
    """The store cannot be used, or its folder cannot be created or made private to this user."""


class NoResponse(InvoicefsError):
    """The request got no usable response; nothing is known about what was requested."""


class Unreachable(NoResponse):
    """The host name does not resolve, or the connection was refused or lost."""


class TimedOut(NoResponse):
    """The deadline passed before there was a response."""


class CacheHangs(TimedOut):
    """The disk with the cache does not respond."""


class ServerTimedOut(TimedOut):
    """The server itself reports that it took too long (408, 504)."""


class Unavailable(NoResponse):
    """503. `retry_after_s` is the wait that the server asked for, or None."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServerFault(NoResponse):
    """The server failed: 500, and every status that has no class of its own."""


class BadRequest(ServerFault):
    """400: the server does not accept the request, such as a limit above its maximum."""


class Misdirected(ServerFault):
    """The server redirects to another host, namespace or invoice, or in a loop."""


class UntrustedServer(NoResponse):
    """TLS cannot be established; the message says why."""


class UnusableResponse(NoResponse):
    """The response is not what the API promises: not JSON, incomplete, not a PDF, cut short."""


class OutOfDescriptors(NoResponse):
    """The process, or the machine, can open no more files."""


class OutOfMemory(NoResponse):
    """The machine has no more memory, or no more threads, for this process."""


class Refusal(InvoicefsError):
    """The API refuses the request, or this client refuses to make it or to use the response."""


class Denied(Refusal):
    """403: the credential is valid, but may not do this.

    Without `has_reason`, the response may be that of a proxy, and says nothing of the credential.
    """

    def __init__(self, message: str = "", *, has_reason: bool = True) -> None:
        super().__init__(message)
        self.has_reason = has_reason


class Unauthenticated(Denied):
    """401: the credential is not valid."""


class CredentialRenewed(Unauthenticated):
    """401 for a credential that was replaced while the request was in flight: retry at once."""


class NotFound(Refusal):
    """The invoice or namespace does not exist (404), or cannot exist with this name."""


class Busy(Refusal):
    """409: the server is changing what was requested."""


class RateLimited(Refusal):
    """429. `retry_after_s` is the wait that the server asked for, or None."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooLarge(Refusal):
    """The PDF is larger than the upper bound that is shown as a size (max-pdf-size)."""


class ReadOnly(InvoicefsError):
    """A program tried to change the mounted folder."""


class Outdated(InvoicefsError):
    """The kernel may have an outdated size of a file that is being opened: repeat the open."""


class NameTooLong(InvoicefsError):
    """No file or directory can have a name of this length."""


class NoAttribute(InvoicefsError):
    """The file has no extended attribute of this name."""


class BadHandle(InvoicefsError):
    """A file or directory handle that is not open."""


class CallerKilled(Exception):
    """The program that waits for an operation has been killed.

    Not an `InvoicefsError`, because nothing has failed: no other result may be used instead.
    """
