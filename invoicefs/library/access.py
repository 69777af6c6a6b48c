"""What the API has let a credential see: the store shows it no more than that.

Mounts of one user share a store, even with different tokens. What one of them has downloaded says
nothing about what another may see; only the API does. So for each credential and namespace it is
recorded that a listing, and that a PDF, was allowed. Where nothing is recorded, the request is
made, once per namespace, and its result counts.

Invariants:

1. What is stored is served only to a credential that `may_see` it, or that has just received it.
2. A credential is recorded as a fingerprint, keyed with a secret of the store: neither the
   credential nor anything it could be guessed from is written down.
3. A 403 for a listing revokes the permission to see it. That it was once allowed stays known
   (`has_seen`), because what such a credential already knows is no secret to it. A 403 for one PDF
   says nothing about others.

Threading: `_known` changes by single assignments. `note` is called by threads that may use the
store; all others read it through `disk`.
"""

import enum
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Final, NamedTuple

from invoicefs.library.ports import Store
from invoicefs.model import AccessKey
from invoicefs.scheduling.disk_threads import DiskThreads

NAMESPACES: Final = "namespaces"
INVOICES: Final = "invoices"
PDF: Final = "pdf"


class Verdict(enum.StrEnum):
    """The API's last response; a credential that never saw anything has none."""

    ALLOWED = "allowed"
    REFUSED = "refused"


class _Request(NamedTuple):
    """A kind of request in a namespace, by a credential."""

    credential: str
    kind: str
    namespace: str


class Access:
    """What the credential of a mount may see; `credential` returns the current one.

    A credential is any text that stands for it.
    """

    def __init__(self, store: Store, disk: DiskThreads, credential: Callable[[], str]) -> None:
        self._store = store
        self._disk = disk
        self._fingerprint_key = store.fingerprint_key(secrets.token_bytes())
        self._known: dict[_Request, Verdict | None] = {}
        self._credential = credential

    def note(self, credential: str, kind: str, namespace: str, *, is_allowed: bool) -> None:
        """Record how the API has answered a request of a credential; uses the store."""
        request = _Request(credential, kind, namespace)
        before = self._known.get(request) or self._stored(request)
        after = Verdict.ALLOWED if is_allowed else before
        if not is_allowed and before and kind != PDF:
            after = Verdict.REFUSED
        self._known[request] = after
        if after and after is not before:
            self._store.save_verdicts({self._key(request): after})

    def may_see(self, kind: str, namespace: str = "") -> bool:
        """Return whether the API last allowed this; raises `TimedOut` if the disk hangs.

        Another mount with the same credential may have been allowed it since this was last asked.
        """
        request = _Request(self._credential(), kind, namespace)
        if self._known.get(request) is None:
            self._recall(request)
        return self._known[request] is Verdict.ALLOWED

    def has_seen(self, kind: str, namespace: str = "") -> bool:
        """Return whether the API ever allowed this; raises `TimedOut` if the disk hangs."""
        request = _Request(self._credential(), kind, namespace)
        if request not in self._known:
            self._recall(request)
        return self._known[request] is not None

    def _recall(self, request: _Request) -> None:
        found = self._disk.run(lambda: self._stored(request))
        # A response may have come first, and counts.
        self._known[request] = self._known.get(request) or found

    def _stored(self, request: _Request) -> Verdict | None:
        text = self._store.verdict(self._key(request))
        return Verdict(text) if text in tuple(Verdict) else None

    def _key(self, request: _Request) -> AccessKey:
        fingerprint = hmac.digest(
            self._fingerprint_key, request.credential.encode(), hashlib.sha256
        ).hex()
        return AccessKey(fingerprint, request.kind, request.namespace)
