"""What the API has let a credential see: the store shows it no more than that.

Mounts of one user share a store, also with different tokens. What one of them has downloaded says
nothing of what another may see; only the API does. So for each credential and namespace it is
remembered that a list, and that a PDF, was allowed. Where nothing is remembered the request is
made, once per namespace, and its answer counts.

Invariants:

1. What is stored is served only to a credential that `may_see` it, or that has just got it.
2. A credential is remembered as a fingerprint, keyed with a secret of the store: neither it nor
   anything that it could be guessed from is written down.
3. A 403 for a list takes back that it was allowed. That it once was stays known (`has_seen`): what
   such a credential knows already is no secret to it. A 403 for one PDF says nothing of others.

Threading: `_known` changes by single assignments, `_key` in `refill_store` alone.
`note` and `refill_store` are called by threads that may use the store; all others ask it through
`disk`.
"""

import enum
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from invoicefs.scheduling.disk_threads import DiskThreads

NAMESPACES: Final = "namespaces"
INVOICES: Final = "invoices"
PDF: Final = "pdf"


class Verdict(enum.StrEnum):
    """What the API has said last; a credential that never saw anything has none."""

    ALLOWED = "allowed"
    REFUSED = "refused"


class Question(NamedTuple):
    """Whether a credential, by its fingerprint, may see a kind of thing in a namespace."""

    fingerprint: str
    kind: str
    namespace: str


class AccessStore(Protocol):
    """Where verdicts are kept across remounts."""

    def fingerprint_key(self, proposed: bytes) -> bytes:
        """The secret that fingerprints are keyed with: what is kept, else from now on this."""

    def verdict(self, question: Question) -> str | None:
        """What was kept last, or None where nothing was."""

    def save_verdicts(self, verdicts: Mapping[Question, str]) -> bool:
        """Keep these. Returns False where the disk cannot take it."""


class _Seen(NamedTuple):
    """What a credential asked for."""

    credential: str
    kind: str
    namespace: str


class Access:
    """What the credential of a mount may see; `credential` returns the present one.

    A credential is any text that stands for it.
    """

    def __init__(
        self, store: AccessStore, disk: DiskThreads, credential: Callable[[], str]
    ) -> None:
        self._store = store
        self._disk = disk
        self._key = store.fingerprint_key(secrets.token_bytes())
        self._known: dict[_Seen, Verdict | None] = {}
        self._credential = credential

    def note(self, credential: str, kind: str, namespace: str, *, is_allowed: bool) -> None:
        """Take note of what the API has answered to a credential."""
        seen = _Seen(credential, kind, namespace)
        before = self._known.get(seen) or self._stored(seen)
        after = Verdict.ALLOWED if is_allowed else before
        if not is_allowed and before and kind != PDF:
            after = Verdict.REFUSED
        self._known[seen] = after
        if after and after is not before:
            self._store.save_verdicts({self._question(seen): after})

    def may_see(self, kind: str, namespace: str = "") -> bool:
        """Whether the API has last allowed this; raises `TimedOut` where the disk hangs.

        Another mount with the same credential may have been allowed it since it was asked here.
        """
        seen = _Seen(self._credential(), kind, namespace)
        if self._known.get(seen) is None:
            self._recall(seen)
        return self._known[seen] is Verdict.ALLOWED

    def has_seen(self, kind: str, namespace: str = "") -> bool:
        """Whether the API has ever allowed this; raises `TimedOut` where the disk hangs."""
        seen = _Seen(self._credential(), kind, namespace)
        if seen not in self._known:
            self._recall(seen)
        return self._known[seen] is not None

    def refill_store(self) -> bool:
        """Keep what the store has lost. Returns False where the disk cannot take it."""
        self._key = self._store.fingerprint_key(self._key)
        known = tuple(self._known.items())
        return self._store.save_verdicts(
            {self._question(seen): verdict for seen, verdict in known if verdict}
        )

    def _recall(self, seen: _Seen) -> None:
        found = self._disk.run(lambda: self._stored(seen))
        # A note may have come first, and counts.
        self._known[seen] = self._known.get(seen) or found

    def _stored(self, seen: _Seen) -> Verdict | None:
        text = self._store.verdict(self._question(seen))
        return Verdict(text) if text in tuple(Verdict) else None

    def _question(self, seen: _Seen) -> Question:
        fingerprint = hmac.digest(self._key, seen.credential.encode(), hashlib.sha256).hex()
        return Question(fingerprint, seen.kind, seen.namespace)
