"""Names of invoices and namespaces <-> names of files and directories.

``NAME`` becomes ``NAME.pdf``. What a file name cannot hold (``/``, NUL and other control
characters, lone surrogates) and ``%`` itself are percent-encoded as UTF-8, so the mapping is
reversible. A result over 255 bytes (NAME_MAX, see limits.h) is cut and ends in ``~`` and ten hex
digits of the SHA-256 of the name; only a listing can map that back.
"""

import hashlib
import re
from urllib.parse import quote, unquote_to_bytes

SUFFIX = ".pdf"
NAME_MAX_BYTES = 255

_CUT_DIGITS = 10
_KEPT_BYTES = NAME_MAX_BYTES - len(SUFFIX) - len("~") - _CUT_DIGITS
# The cut falls between characters, and the longest of them has four bytes.
_SHORTEST_CUT_BYTES = _KEPT_BYTES - 3 + len("~") + _CUT_DIGITS
_ENCODED = re.compile("[/%\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CUT_STEM = re.compile("(.*)~([0-9a-f]{10})", re.DOTALL)
_DNS_LABEL = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def file_name(invoice: str) -> str:
    """The file name of an invoice; at most 255 bytes of UTF-8, different for different names."""
    stem = _encode(invoice)
    # A short stem cannot be taken for one that was cut, so only long ones give up their tilde.
    is_long = len(_utf8(stem)) >= _SHORTEST_CUT_BYTES
    # Not `sub`, which looks from every character on: long names took minutes (measured).
    if is_long and (cut := _CUT_STEM.fullmatch(stem)):
        stem = f"{cut[1]}%7E{cut[2]}"
    if len(_utf8(stem)) > NAME_MAX_BYTES - len(SUFFIX):
        stem = _cut(stem, invoice)
    return stem + SUFFIX


def invoice_name(file: str) -> str | None:
    """The name of the invoice that would be called so, or None where no name maps to it.

    A cut name cannot be mapped back and gives None.
    """
    if not file.endswith(SUFFIX):
        return None
    name = _decode(file.removesuffix(SUFFIX))
    return name if name and file_name(name) == file else None


def directory_name(namespace: str) -> str | None:
    """The directory name of a namespace, or None for one that no directory can stand for."""
    name = _encode(namespace)
    unusable = namespace in ("", ".", "..") or len(_utf8(name)) > NAME_MAX_BYTES
    return None if unusable else name


def can_be_unlisted_invoice(file: str) -> bool:
    """Whether it is worth asking the API for a file of this name that no listing has.

    File managers and desktops probe for hidden files all the time; those are never invoices.
    """
    return not file.startswith(".") and invoice_name(file) is not None


def is_too_long(file: str) -> bool:
    """Whether no file can have this name; FUSE in the kernel lets four times as much pass."""
    return len(file.encode("utf-8", "surrogateescape")) > NAME_MAX_BYTES


def is_cut(file: str) -> bool:
    """Whether this is how the file of an invoice with too long a name is called."""
    stem = file.removesuffix(SUFFIX)
    is_long = _SHORTEST_CUT_BYTES <= len(_utf8(stem)) <= NAME_MAX_BYTES - len(SUFFIX)
    return is_long and stem != file and _CUT_STEM.fullmatch(stem) is not None


def can_be_namespace(name: str) -> bool:
    """Whether a namespace may have this name: a DNS label (RFC 1123, as the vendor demands)."""
    return _DNS_LABEL.fullmatch(name) is not None


def _encode(name: str) -> str:
    return _ENCODED.sub(lambda match: quote(_utf8(match[0]), safe=""), name)


def _decode(encoded: str) -> str | None:
    """The inverse of `_encode`; None for what is not text at all."""
    try:
        return unquote_to_bytes(_utf8(encoded)).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def _cut(stem: str, name: str) -> str:
    digits = hashlib.sha256(_utf8(name)).hexdigest()[:_CUT_DIGITS]
    kept = _utf8(stem)[:_KEPT_BYTES].decode("utf-8", "ignore")
    return f"{kept}~{digits}"


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
