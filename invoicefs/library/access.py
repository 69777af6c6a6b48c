"""Access control of the store: a credential gets nothing that the API has not let it see.

Mounts of one user share a store, even with different tokens. If one of them has downloaded an
invoice, another is not necessarily allowed to see it; only the API decides. So the API's verdicts
on listings and on PDFs are recorded for each credential and namespace. Without a verdict, the
request is made, once per namespace, and its result decides.

Invariants:

1. A cached value is served only to a credential that `may_see` it, or that has just received it.
2. A credential is recorded as a fingerprint, keyed with a secret of the store: neither the
   credential nor anything from which it could be guessed is written to disk.
3. A 403 for a listing revokes the permission to see it. The earlier permission stays on record
   (`has_seen`), because information that a credential has already received is no secret to it. A
   403 for one PDF says nothing about others.

Threading: `_known` changes by single assignments. `note` is called by threads that may use the
store; all other methods read the store through `disk`.
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
    """The API's verdict on a kind of request; there is none until a request is allowed."""

    ALLOWED = "allowed"
    REFUSED = "refused"


class _Request(NamedTuple):
    """A kind of request in a namespace, by a credential."""

    credential: str
    kind: str
    namespace: str


class Access:
    """The verdicts for the credential of a mount; `credential` returns the current credential.

    Each credential is represented by a text that identifies it.
    """

    def __init__(self, store: Store, disk: DiskThreads, credential: Callable[[], str]) -> None:
        self._store = store
        self._disk = disk
        self._fingerprint_key = store.fingerprint_key(secrets.token_bytes())
        self._known: dict[_Request, Verdict | None] = {}
        self._credential = credential

    def note(self, credential: str, kind: str, namespace: str, *, is_allowed: bool) -> None:
        """Record whether the API allowed a request with a credential; uses the store."""
        request = _Request(credential, kind, namespace)
        before = self._known.get(request) or self._stored(request)
        after = Verdict.ALLOWED if is_allowed else before
        if not is_allowed and before and kind != PDF:
            after = Verdict.REFUSED
        self._known[request] = after
        if after and after is not before:
            self._store.save_verdicts({self._key(request): after})

    def may_see(self, kind: str, namespace: str = "") -> bool:
        """Return whether the verdict on such requests is `ALLOWED`.

        As long as there is no verdict, every call reads the store, because another mount with the
        same credential may have been allowed such a request in the meantime. Raises `TimedOut` if
        the disk hangs.
        """
        request = _Request(self._credential(), kind, namespace)
        if self._known.get(request) is None:
            self._load(request)
        return self._known[request] is Verdict.ALLOWED

    def has_seen(self, kind: str, namespace: str = "") -> bool:
        """Return whether such a request was ever allowed; raises `TimedOut` if the disk hangs."""
        request = _Request(self._credential(), kind, namespace)
        if request not in self._known:
            self._load(request)
        return self._known[request] is not None

    def _load(self, request: _Request) -> None:
        found = self._disk.run(lambda: self._stored(request))
        # A response that arrived in the meantime takes precedence.
        self._known[request] = self._known.get(request) or found

    def _stored(self, request: _Request) -> Verdict | None:
        text = self._store.verdict(self._key(request))
        return Verdict(text) if text in tuple(Verdict) else None

    def _key(self, request: _Request) -> AccessKey:
        fingerprint = hmac.digest(
            self._fingerprint_key, request.credential.encode(), hashlib.sha256
        ).hex()
        return AccessKey(fingerprint, request.kind, request.namespace)
