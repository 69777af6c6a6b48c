"""What can go wrong with the API, how to make it go wrong, and what comes of it.

Each `Ailment` is a row of the fault matrix. `fault_matrix` makes each of them happen to a real
mount, and README shows the table that `table` makes of them.
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

HOST = "invoices.test"  # a name that only the hosts file of a test knows

_LISTS = (Endpoint.NAMESPACES, Endpoint.INVOICES)


class World:
    """A server, and what stands between it and a mount: a certificate and a hosts file."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox = sandbox
        self.hosts = HostsFile(folder / "hosts")
        self._certificate = folder / "trusted.crt"
        self._good = make_certificate(self._certificate, "IP:127.0.0.1", f"DNS:{HOST}")
        self._bad = make_certificate(folder / "unknown.crt", "IP:127.0.0.1", f"DNS:{HOST}")

    def use_tls(self, *, is_trusted: bool) -> None:
        """Serve by HTTPS from now on, with a certificate that the mount trusts or another."""
        self.sandbox.go_away()
        self.sandbox.tls = self._good if is_trusted else self._bad
        self.sandbox.come_back()

    @property
    def variables(self) -> Mapping[str, str]:
        """What a mount needs in its environment to find and to trust the server."""
        url = self.sandbox.url
        if self.sandbox.tls is None:
            return {"INVOICEFS_URL": url}
        return {
            "INVOICEFS_URL": url.replace("127.0.0.1", HOST),
            "REQUESTS_CA_BUNDLE": str(self._certificate),
            "LD_PRELOAD": "libnss_wrapper.so",
            "NSS_WRAPPER_HOSTS": str(self.hosts.path),
            "RES_OPTIONS": "attempts:0",  # no name server is asked for what the file does not know
        }


class HostsFile:
    """A file in place of ``/etc/hosts``, through nss_wrapper; names can come and go.

    The time of a last read tells whether somebody has asked for a name since the last change, for
    nss_wrapper reads the file again when its mtime, in seconds, is another.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changes = 0
        self.knows(HOST)

    def knows(self, name: str) -> None:
        """Have it know one name, that of the loopback interface, and no other."""
        self._changes += 1
        self.path.write_text(f"127.0.0.1 {name}\n", encoding="utf-8")
        os.utime(self.path, (0, self._changes))

    @property
    def was_read(self) -> bool:
        """Whether it was read since its last change."""
        return self.path.stat().st_atime != 0


@dataclass(frozen=True)
class Target:
    """The calls that an ailment befalls; None is any."""

    endpoint: Endpoint
    namespace: str | None = None
    name: str | None = None

    def fault(self, answer: Callable[[Endpoint], Behaviour], times: int | None = None) -> Fault:
        """Have them answered like this."""
        return Fault(answer(self.endpoint), self.endpoint, self.namespace, self.name, times)


@dataclass(frozen=True, kw_only=True)
class Ailment(ABC):
    """One way to fail, and the errnos that come of it.

    `listing` is that of a list that was never had; a list from before is shown instead, unless
    `hides_lists`. `opening` is that of a new invoice. An ailment that `mends` is no error where it
    befalls one call only. `keeps_unmounted`: a tenant that was never mounted is not mounted.
    """

    name: str
    listing: str
    opening: str
    mends: bool = False
    hides_lists: bool = False
    keeps_unmounted: bool = False
    timeout_s: int = 20
    befalls_lists: bool = True
    needs_tls: bool = False

    @abstractmethod
    def begin(self, world: World, target: Target) -> None:
        """Have all such calls fail; what befalls whole servers makes all others fail, too."""

    @abstractmethod
    def end(self, world: World) -> None:
        """Have no call fail any more."""

    @abstractmethod
    def during_one_call(self, world: World, use: Callable[[], T], target: Target) -> T:
        """Have `use` run into it once."""

    @property
    def befalls_all_calls(self) -> bool:
        """Whether it cannot befall some calls alone."""
        return True


@dataclass(frozen=True, kw_only=True)
class Answered(Ailment):
    """A bad answer, made from what the call is."""

    answer: Callable[[Endpoint], Behaviour]

    def begin(self, world: World, target: Target) -> None:
        world.sandbox.inject(target.fault(self.answer))

    def end(self, world: World) -> None:
        world.sandbox.heal()

    def during_one_call(self, world: World, use: Callable[[], T], target: Target) -> T:
        world.sandbox.inject(target.fault(self.answer, times=1))
        return use()

    @property
    def befalls_all_calls(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class Refused(Ailment):
    """Nobody listens on the port."""

    def begin(self, world: World, _: Target) -> None:
        world.sandbox.go_away()

    def end(self, world: World) -> None:
        world.sandbox.come_back()

    def during_one_call(self, world: World, use: Callable[[], T], target: Target) -> T:
        before = _failed_connects()
        self.begin(world, target)
        return _mended_meanwhile(use, lambda: _failed_connects() > before, lambda: self.end(world))


@dataclass(frozen=True, kw_only=True)
class Unresolved(Ailment):
    """The name of the server has no address."""

    def begin(self, world: World, _: Target) -> None:
        world.sandbox.go_away()  # an open connection needs no name
        world.hosts.knows("nobody.test")
        world.sandbox.come_back()

    def end(self, world: World) -> None:
        world.hosts.knows(HOST)

    def during_one_call(self, world: World, use: Callable[[], T], target: Target) -> T:
        self.begin(world, target)
        return _mended_meanwhile(use, lambda: world.hosts.was_read, lambda: self.end(world))


@dataclass(frozen=True, kw_only=True)
class Distrusted(Ailment):
    """The server shows a certificate that nobody trusts."""

    def begin(self, world: World, _: Target) -> None:
        world.use_tls(is_trusted=False)

    def end(self, world: World) -> None:
        world.use_tls(is_trusted=True)

    def during_one_call(self, world: World, use: Callable[[], T], target: Target) -> T:
        self.begin(world, target)
        try:
            return use()  # which makes one call: this is never tried again
        finally:
            self.end(world)


def _mended_meanwhile(
    use: Callable[[], T], has_failed: Callable[[], bool], mend: Callable[[], None]
) -> T:
    """The result of `use`, with the ailment ended when it has failed for the first time."""
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(use)
        try:
            eventually(has_failed)
        finally:
            mend()
        return result.result()


def _failed_connects() -> int:
    """How many connections could not be made on this machine (``/proc/net/snmp``).

    Nothing else makes such attempts at the time; if it did, the ailment would just end earlier.
    """
    lines = Path("/proc/net/snmp").read_text(encoding="ascii").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(values[names.index("AttemptFails")])


def _anywhere(behaviour: Behaviour) -> Callable[[Endpoint], Behaviour]:
    return lambda _: behaviour


@cache
def _bomb() -> Behaviour:
    return faults.gzip_bomb(200)  # more than any list may have


@cache
def _hundred_megabytes() -> Behaviour:
    return faults.large(100)


def _without_the_part_that_matters(endpoint: Endpoint) -> Behaviour:
    # An empty object is an empty list: in proto3, fields that are empty are left out.
    return faults.json_body({"oops": 1} if endpoint in _LISTS else {})


def _lost(name: str, behaviour: Behaviour) -> Ailment:
    return Answered(
        name=name,
        answer=_anywhere(behaviour),
        listing="EHOSTUNREACH",
        opening="EHOSTUNREACH",
        mends=True,
        keeps_unmounted=True,
    )


def _slow(name: str, behaviour: Behaviour) -> Ailment:
    return Answered(
        name=name,
        answer=_anywhere(behaviour),
        listing="ETIMEDOUT",
        opening="ETIMEDOUT",
        keeps_unmounted=True,
        timeout_s=2,
    )


def _unusable(name: str, answer: Callable[[Endpoint], Behaviour], opening: str = "EIO") -> Ailment:
    return Answered(name=name, answer=answer, listing="EIO", opening=opening, keeps_unmounted=True)


def _bad_pdf(name: str, behaviour: Behaviour) -> Ailment:
    return Answered(
        name=name, answer=_anywhere(behaviour), listing="", opening="EIO", befalls_lists=False
    )


def _status(
    code: int,
    listing: str,
    opening: str | None = None,
    *,
    mends: bool = False,
    hides_lists: bool = False,
    keeps_unmounted: bool = False,
) -> Ailment:
    return Answered(
        name=str(code),
        answer=_anywhere(faults.status(code)),
        listing=listing,
        opening=opening or listing,
        mends=mends,
        hides_lists=hides_lists,
        keeps_unmounted=keeps_unmounted,
    )


AILMENTS: tuple[Ailment, ...] = (
    Unresolved(
        name="DNS failure",
        listing="EHOSTUNREACH",
        opening="EHOSTUNREACH",
        mends=True,
        keeps_unmounted=True,
        needs_tls=True,
    ),
    Refused(
        name="connection refused",
        listing="EHOSTUNREACH",
        opening="EHOSTUNREACH",
        mends=True,
        keeps_unmounted=True,
    ),
    _lost("reset before the headers", faults.reset(Sent.NOTHING)),
    _lost("reset in the body", faults.reset(Sent.HALF_BODY)),
    _lost("body shorter than announced", faults.wrong_length(1)),
    _slow("silence in the headers", faults.stall(Sent.HALF_HEAD)),
    _slow("headers that dribble in", faults.dribble(0.1)),
    _slow("silence in the body", faults.stall(Sent.HALF_BODY)),
    _slow("one byte a second", faults.dribble(1.0, after=Sent.HEAD)),
    _status(504, "ETIMEDOUT"),
    _status(429, "EAGAIN", mends=True),
    _status(503, "EAGAIN", mends=True),
    _status(401, "EACCES", hides_lists=True, keeps_unmounted=True),
    _status(403, "EACCES", hides_lists=True),
    _status(404, "EIO", "ENOENT", keeps_unmounted=True),
    _status(409, "EBUSY"),
    _status(500, "EIO"),
    Distrusted(
        name="TLS failure", listing="EIO", opening="EIO", keeps_unmounted=True, needs_tls=True
    ),
    _unusable("redirect to another host", _anywhere(faults.redirect("http://127.0.0.2:9/"))),
    _unusable("body longer than announced", _anywhere(faults.wrong_length(-1))),
    _unusable("a page for people (HTML)", _anywhere(faults.html())),
    _unusable("invalid JSON", _anywhere(faults.not_json())),
    _unusable("no list, no `pdf` in the answer", _without_the_part_that_matters),
    _bad_pdf("bad base64", faults.bad_base64()),
    _bad_pdf("not a PDF", faults.not_a_pdf()),
    _bad_pdf("an empty PDF", faults.not_a_pdf(b"")),
    Answered(
        name="redirect in a circle",
        answer=_anywhere(faults.redirect()),
        listing="EIO",
        opening="EIO",
        mends=True,  # one redirect alone leads to where the call was going anyway
        keeps_unmounted=True,
    ),
    _unusable("100 MB", lambda _: _hundred_megabytes(), "EFBIG"),
    _unusable("gzip bomb", lambda _: _bomb(), "EFBIG"),
)


def table() -> str:
    """The table of README; ailments in a row of which the same comes are one line of it."""
    lines = [
        "| what goes wrong | mounting a new tenant | a list never had | a list had before"
        " | opening a new invoice | only one call fails |",
        "|---|---|---|---|---|---|",
    ]
    for cells, ailments in groupby(AILMENTS, _cells):
        names = ", ".join(ailment.name for ailment in ailments)
        lines.append(f"| {names} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(ailment: Ailment) -> tuple[str, ...]:
    once = "not noticed" if ailment.mends else "the same, once"
    if not ailment.befalls_lists:
        return "-", "-", "-", ailment.opening, once
    return (
        "refused" if ailment.keeps_unmounted else "with a warning",
        ailment.listing,
        ailment.listing if ailment.hides_lists else "is shown",
        ailment.opening,
        once,
    )


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
