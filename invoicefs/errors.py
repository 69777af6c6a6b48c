"""The exceptions of the domain.

They say what happened to an invoice, a listing or a setting in the words of the domain. What
errno each becomes for a program is the table in ``errnos``; which HTTP answer causes which is
``api``. Every message is one sentence that a user can read.

``NoAnswer`` and ``Refusal`` split what the API can do to a call. A ``NoAnswer`` says nothing
about the invoice, so what is already stored may be served instead. A ``Refusal`` is an answer:
what it refuses is not served from the store.
"""

from typing import Final

TIMED_OUT: Final = "no answer within the timeout"
MOUNT_IS_ENDING: Final = "the mount is ending"


class InvoicefsError(Exception):
    """The root of everything this package raises on purpose."""


class UserError(InvoicefsError):
    """A setting or the machine is not as it must be; the message says how to mend it."""


class UsageError(UserError):
    """An option or argument has a value that cannot be meant (exit code 2)."""


class StoreUnusable(UserError):
    """The folder of the store cannot be created, entered or written."""


class NoAnswer(InvoicefsError):
    """The call brought no usable answer; nothing is known about what was asked for."""


class Unreachable(NoAnswer):
    """No connection: the name does not resolve, the connection was refused or lost."""


class TimedOut(NoAnswer):
    """The deadline passed before there was an answer."""


class ServerTimedOut(TimedOut):
    """The server itself says that it took too long (408, 504)."""


class Unavailable(NoAnswer):
    """503. ``retry_after_s`` is the wait that the server asked for, if it did."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServerFault(NoAnswer):
    """The server failed: 500 and other statuses that nothing else stands for."""


class BadRequest(ServerFault):
    """400: the server does not take what it was asked, such as a limit above its maximum."""


class Misdirected(ServerFault):
    """The server redirects to another host, or in a circle; neither is followed."""


class UntrustedServer(NoAnswer):
    """TLS could not be established; the message says why."""


class UnusableAnswer(NoAnswer):
    """The answer is not what the API promises: not JSON, a part missing, not a PDF, cut short."""


class OutOfDescriptors(NoAnswer):
    """The process, or the machine, has as many files open as it may."""


class OutOfMemory(NoAnswer):
    """The machine has no more memory, or threads, for us."""


class Refusal(InvoicefsError):
    """The API answered, and the answer is no."""


class Denied(Refusal):
    """403: the credential is known, but may not do this."""


class Unauthenticated(Denied):
    """401: the credential is not accepted at all."""


class CredentialRenewed(Unauthenticated):
    """401 for a credential that has been replaced since the call began: ask again at once."""


class NotFound(Refusal):
    """The invoice or namespace does not exist (404), or cannot exist under this name."""


class Busy(Refusal):
    """409: the server is working on the very thing that was asked for."""


class RateLimited(Refusal):
    """429. ``retry_after_s`` is the wait that the server asked for, if it did."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooLarge(Refusal):
    """The PDF is larger than the limit that sizes are promised to stay below."""


class ReadOnly(InvoicefsError):
    """Somebody tried to change the mounted folder."""


class Outdated(InvoicefsError):
    """The kernel still holds another size of a file that is being opened; it has to ask again."""


class NameTooLong(InvoicefsError):
    """No file or directory can have a name of this length."""


class NoAttribute(InvoicefsError):
    """The file has no extended attribute of this name."""


class BadHandle(InvoicefsError):
    """A file or directory handle that is not open."""
