"""The jobs of a scheduler, their outcomes, and how many there are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from invoicefs.clock import Deadline
from invoicefs.errors import InvoicefsError, OutOfMemory
from invoicefs.scheduling.throttle import Priority

_NO_MEMORY = "this machine is out of memory"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a job, or the error that it ended with."""

    value: Any = None
    error: Exception | None = None

    @property
    def is_unexpected(self) -> bool:
        """Whether the error is not an exception of the domain, which means a bug."""
        return self.error is not None and not isinstance(self.error, InvoicefsError)

    def result(self) -> Any:
        """Return the value, or raise the error."""
        if isinstance(self.error, InvoicefsError):
            # Many callers raise the same exception object, whose traceback would keep growing.
            raise self.error.with_traceback(None)
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(eq=False, slots=True)
class Job:
    """A request to be made, with its retries; `outcome` is set once, when it is over.

    `callers` is the number of foreground callers that wait for it. `began_s` is when it was queued,
    or when the first of them joined it. The fields `attempt_*` belong to the current or last
    attempt. Guarded by the lock of its scheduler.
    """

    key: str
    kind: str
    call: Callable[[Deadline], Any]
    deadline: Deadline
    priority: Priority
    is_urgent: bool
    callers: int = 0
    began_s: float = 0.0
    not_before_s: float = 0.0
    attempts: int = 0
    attempt_began_s: float = 0.0
    attempt_deadline_s: float = 0.0
    renewals: int = 0
    last_error: InvoicefsError | None = None
    outcome: Outcome | None = None

    def join(self, other: "Job", now_s: float) -> bool:
        """Take over the deadline and the priority of another job with this key, if they are higher.

        Returns whether its caller is the first one in the foreground, so it is more important now.
        """
        self.deadline = max(self.deadline, other.deadline, key=lambda either: either.at_s)
        self.is_urgent = self.is_urgent or other.is_urgent
        if other.priority < self.priority:
            self.priority = other.priority
            self.began_s = now_s
            self.not_before_s = 0.0
            return True
        return False

    def begin_attempt(self, now_s: float, timeout_s: float) -> None:
        """Note that an attempt begins; in the background it has the whole timeout from now on.

        Otherwise one that was queued for long would end soon, whoever has come to wait for it.
        """
        self.attempts += 1
        self.attempt_began_s = now_s
        self.attempt_deadline_s = self.deadline.at_s
        if self.priority is Priority.BACKGROUND:
            self.attempt_deadline_s = max(self.attempt_deadline_s, now_s + timeout_s)

    def has_later_caller(self, now_s: float) -> bool:
        """Return whether the attempt has reached its deadline, and a caller has a later one."""
        return self.callers > 0 and self.attempt_deadline_s <= now_s < self.deadline.at_s

    def attempt(self) -> Outcome:
        """Make the request; called without the lock."""
        try:
            return Outcome(self.call(Deadline(self.attempt_deadline_s, self.deadline.clock)))
        except InvoicefsError as error:
            return Outcome(error=_bare(error))
        except MemoryError:
            return Outcome(error=OutOfMemory(_NO_MEMORY))
        except Exception as error:  # the callers that wait for it raise it, with its traceback
            return Outcome(error=error)


@dataclass(frozen=True, slots=True)
class Load:
    """How many requests are in flight and queued, and the seconds left of cool-downs, by kind."""

    running: int
    waiting: int
    cool_downs_s: Mapping[str, float]


def _bare(error: InvoicefsError) -> InvoicefsError:
    """Return the error without its causes and traceback, because it is kept for a while.

    Their frames refer to whole responses: 24 of them took a gigabyte (measured). The notes of the
    cause, which name the failed request, are kept for the log.
    """
    for note in getattr(error.__cause__, "__notes__", ()):
        error.add_note(note)
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
