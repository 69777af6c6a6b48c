"""The ways in which the API can fail, how to cause each, and what programs then see.

Each `Failure` is a row of the fault matrix. `fault_matrix` causes each of them on a real mount, and
tests/README.md has the table that `table` returns.
"""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from invoicefs.sandbox import Behaviour, Endpoint, Fault, Sandbox, Sent, faults
from tests.mount.support.programs import eventually
from tests.support.certificates import make_certificate

T = TypeVar("T")

HOST = "invoices.test"  # a name that only a test's hosts file has

_LISTS = (Endpoint.NAMESPACES, Endpoint.INVOICES)


class World:
    """A server, with the certificate and the hosts file through which a mount reaches it."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox = sandbox
        self.hosts = HostsFile(folder / "hosts")
        self._certificate = folder / "trusted.crt"
        self._good = make_certificate(self._certificate, "IP:127.0.0.1", f"DNS:{HOST}")
        self._bad = make_certificate(folder / "unknown.crt", "IP:127.0.0.1", f"DNS:{HOST}")

    def use_tls(self, *, is_trusted: bool) -> None:
        """Serve HTTPS from now on, with a certificate that the mount trusts or does not."""
        self.sandbox.go_away()
        self.sandbox.tls = self._good if is_trusted else self._bad
        self.sandbox.come_back()

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables with which a mount finds and trusts the server."""
        url = self.sandbox.url
        if self.sandbox.tls is None:
            return {"INVOICEFS_URL": url}
        return {
            "INVOICEFS_URL": url.replace("127.0.0.1", HOST),
            "REQUESTS_CA_BUNDLE": str(self._certificate),
            "LD_PRELOAD": "libnss_wrapper.so",
            "NSS_WRAPPER_HOSTS": str(self.hosts.path),
            "RES_OPTIONS": "attempts:0",  # unknown names are not sent to a name server
        }


class HostsFile:
    """A replacement for ``/etc/hosts``, through nss_wrapper; its names can change.

    The atime shows whether a name has been looked up since the last change: nss_wrapper reads the
    file again when its mtime, in seconds, has changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changes = 0
        self.set_name(HOST)

    def set_name(self, name: str) -> None:
        """Make this the only name in the file, with the loopback address."""
        self._changes += 1
        self.path.write_text(f"127.0.0.1 {name}\n", encoding="utf-8")
        os.utime(self.path, (0, self._changes))

    @property
    def was_read(self) -> bool:
        """Whether the file has been read since its last change."""
        return self.path.stat().st_atime != 0


@dataclass(frozen=True)
class Target:
    """The requests that fail; None stands for any."""

    endpoint: Endpoint
    namespace: str | None = None
    name: str | None = None

    def fault(self, answer: Callable[[Endpoint], Behaviour], times: int | None = None) -> Fault:
        """Return the fault that answers these requests in this way."""
        return Fault(answer(self.endpoint), self.endpoint, self.namespace, self.name, times)


@dataclass(frozen=True, kw_only=True)
class Failure(ABC):
    """One way to fail, and the errnos that programs see.

    `listing` is the errno for a listing that is not cached; a cached one is shown all the same,
    unless `hides_lists`. `opening` is the errno for a new invoice. If it `recovers`, programs see
    no error when only one request fails. `blocks_mounting`: mounting a new tenant is refused.
    """

    name: str
    listing: str
    opening: str
    recovers: bool = False
    hides_lists: bool = False
    blocks_mounting: bool = False
    timeout_s: int = 20
    affects_lists: bool = True
    needs_tls: bool = False

    @abstractmethod
    def begin(self, world: World, target: Target) -> None:
        """Make these requests fail; a failure of the whole server affects all others, too."""

    @abstractmethod
    def end(self, world: World) -> None:
        """End the failure for all requests."""

    @abstractmethod
    def during_one_request(self, world: World, use: Callable[[], T], target: Target) -> T:
        """Return the result of `use`, during which one request fails."""

    @property
    def affects_all_requests(self) -> bool:
        """Whether all requests fail, and not only those of a target."""
        return True


@dataclass(frozen=True, kw_only=True)
class Answered(Failure):
    """A bad response, which may depend on the endpoint."""

    answer: Callable[[Endpoint], Behaviour]

    def begin(self, world: World, target: Target) -> None:
        world.sandbox.inject(target.fault(self.answer))

    def end(self, world: World) -> None:
        world.sandbox.heal()

    def during_one_request(self, world: World, use: Callable[[], T], target: Target) -> T:
        world.sandbox.inject(target.fault(self.answer, times=1))
        return use()

    @property
    def affects_all_requests(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class Refused(Failure):
    """The port refuses connections."""

    def begin(self, world: World, _: Target) -> None:
        world.sandbox.go_away()

    def end(self, world: World) -> None:
        world.sandbox.come_back()

    def during_one_request(self, world: World, use: Callable[[], T], target: Target) -> T:
        before = _failed_connects()
        self.begin(world, target)
        return _end_on_failure(use, lambda: _failed_connects() > before, lambda: self.end(world))


@dataclass(frozen=True, kw_only=True)
class Unresolved(Failure):
    """The server's name does not resolve."""

    def begin(self, world: World, _: Target) -> None:
        world.sandbox.go_away()  # an open connection needs no lookup
        world.hosts.set_name("nobody.test")
        world.sandbox.come_back()

    def end(self, world: World) -> None:
        world.hosts.set_name(HOST)

    def during_one_request(self, world: World, use: Callable[[], T], target: Target) -> T:
        self.begin(world, target)
        return _end_on_failure(use, lambda: world.hosts.was_read, lambda: self.end(world))


@dataclass(frozen=True, kw_only=True)
class Distrusted(Failure):
    """The server has a certificate that the mount does not trust."""

    def begin(self, world: World, _: Target) -> None:
        world.use_tls(is_trusted=False)

    def end(self, world: World) -> None:
        world.use_tls(is_trusted=True)

    def during_one_request(self, world: World, use: Callable[[], T], target: Target) -> T:
        self.begin(world, target)
        try:
            return use()  # makes one request: a TLS failure is not retried
        finally:
            self.end(world)


def _end_on_failure(
    use: Callable[[], T], has_failed: Callable[[], bool], end: Callable[[], None]
) -> T:
    """Return the result of `use`; call `end` after the first failed request."""
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(use)
        try:
            eventually(has_failed)
        finally:
            end()
        return result.result()


def _failed_connects() -> int:
    """Return the number of failed connection attempts on this machine (``/proc/net/snmp``).

    Nothing else is expected to make any meanwhile; if it did, the failure would only end earlier.
    """
    lines = Path("/proc/net/snmp").read_text(encoding="ascii").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(values[names.index("AttemptFails")])


def _anywhere(behaviour: Behaviour) -> Callable[[Endpoint], Behaviour]:
    return lambda _: behaviour


@cache
def _bomb() -> Behaviour:
    return faults.gzip_bomb(200)  # more than the maximum size of a list


@cache
def _hundred_megabytes() -> Behaviour:
    return faults.large(100)


def _without_required_field(endpoint: Endpoint) -> Behaviour:
    # An empty object is an empty list: proto3 omits empty fields.
    return faults.json_body({"oops": 1} if endpoint in _LISTS else {})


def _lost(name: str, behaviour: Behaviour) -> Failure:
    return Answered(
        name=name,
        answer=_anywhere(behaviour),
        listing="EHOSTUNREACH",
        opening="EHOSTUNREACH",
        recovers=True,
        blocks_mounting=True,
    )


def _slow(name: str, behaviour: Behaviour) -> Failure:
    return Answered(
        name=name,
        answer=_anywhere(behaviour),
        listing="ETIMEDOUT",
        opening="ETIMEDOUT",
        blocks_mounting=True,
        timeout_s=2,
    )


def _unusable(name: str, answer: Callable[[Endpoint], Behaviour], opening: str = "EIO") -> Failure:
    return Answered(name=name, answer=answer, listing="EIO", opening=opening, blocks_mounting=True)


def _bad_pdf(name: str, behaviour: Behaviour) -> Failure:
    return Answered(
        name=name, answer=_anywhere(behaviour), listing="", opening="EIO", affects_lists=False
    )


def _status(
    code: int,
    listing: str,
    opening: str | None = None,
    *,
    recovers: bool = False,
    hides_lists: bool = False,
    blocks_mounting: bool = False,
) -> Failure:
    return Answered(
        name=str(code),
        answer=_anywhere(faults.status(code)),
        listing=listing,
        opening=opening or listing,
        recovers=recovers,
        hides_lists=hides_lists,
        blocks_mounting=blocks_mounting,
    )


API_FAILURES: tuple[Failure, ...] = (
    Unresolved(
        name="DNS failure",
        listing="EHOSTUNREACH",
        opening="EHOSTUNREACH",
        recovers=True,
        blocks_mounting=True,
        needs_tls=True,
    ),
    Refused(
        name="connection refused",
        listing="EHOSTUNREACH",
        opening="EHOSTUNREACH",
        recovers=True,
        blocks_mounting=True,
    ),
    _lost("reset before the headers", faults.reset(Sent.NOTHING)),
    _lost("reset in the body", faults.reset(Sent.HALF_BODY)),
    _lost("body shorter than announced", faults.wrong_length(1)),
    _slow("silence in the headers", faults.stall(Sent.HALF_HEAD)),
    _slow("headers that dribble in", faults.dribble(0.1)),
    _slow("silence in the body", faults.stall(Sent.HALF_BODY)),
    _slow("one byte a second", faults.dribble(1.0, after=Sent.HEAD)),
    _status(504, "ETIMEDOUT"),
    _status(429, "EAGAIN", recovers=True),
    _status(503, "EAGAIN", recovers=True),
    _status(401, "EACCES", hides_lists=True, blocks_mounting=True),
    _status(403, "EACCES", hides_lists=True),
    _status(404, "EIO", "ENOENT", blocks_mounting=True),
    _status(409, "EBUSY"),
    _status(500, "EIO"),
    Distrusted(
        name="TLS failure", listing="EIO", opening="EIO", blocks_mounting=True, needs_tls=True
    ),
    _unusable("redirect to another host", _anywhere(faults.redirect("http://127.0.0.2:9/"))),
    _unusable("body longer than announced", _anywhere(faults.wrong_length(-1))),
    _unusable("an HTML page", _anywhere(faults.html())),
    _unusable("invalid JSON", _anywhere(faults.not_json())),
    _unusable("no list, no `pdf` in the response", _without_required_field),
    _bad_pdf("bad base64", faults.bad_base64()),
    _bad_pdf("not a PDF", faults.not_a_pdf()),
    _bad_pdf("an empty PDF", faults.not_a_pdf(b"")),
    Answered(
        name="redirect loop",
        answer=_anywhere(faults.redirect()),
        listing="EIO",
        opening="EIO",
        recovers=True,  # a single redirect leads to the original target
        blocks_mounting=True,
    ),
    _unusable("100 MB", lambda _: _hundred_megabytes(), "EFBIG"),
    _unusable("gzip bomb", lambda _: _bomb(), "EFBIG"),
)


def table() -> str:
    """Return the table of tests/README.md; adjacent rows with the same cells are merged."""
    lines = [
        "| failure | mounting a new tenant | listing not cached | listing cached"
        " | opening a new invoice | only one request fails |",
        "|---|---|---|---|---|---|",
    ]
    for cells, failures in groupby(API_FAILURES, _cells):
        names = ", ".join(failure.name for failure in failures)
        lines.append(f"| {names} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(failure: Failure) -> tuple[str, ...]:
    once = "not noticed" if failure.recovers else "the same, once"
    if not failure.affects_lists:
        return "-", "-", "-", failure.opening, once
    return (
        "refused" if failure.blocks_mounting else "with a warning",
        failure.listing,
        failure.listing if failure.hides_lists else "is shown",
        failure.opening,
        once,
    )


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
