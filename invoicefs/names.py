"""Maps names of invoices and namespaces to names of files and directories, and back.

``NAME`` becomes ``NAME.pdf``. Characters that a file name cannot have (``/``, NUL and other control
characters, lone surrogates) and ``%`` itself are percent-encoded as UTF-8, so the mapping is
reversible. A result of more than 255 bytes (NAME_MAX, see limits.h) is cut, and ends with ``~`` and
ten hex digits of the SHA-256 of the name; only a listing can map that back.
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
    """Return the file name of an invoice: at most 255 bytes of UTF-8, unique for each name."""
    stem = _encode(invoice)
    if len(stem) < _SHORTEST_CUT_BYTES // 4:  # a character has at most four bytes
        return stem + SUFFIX
    # A short stem cannot be mistaken for a cut one, so the tilde is only encoded in long stems.
    is_long = len(_utf8(stem)) >= _SHORTEST_CUT_BYTES
    # `sub` would try a match at every character: long names took minutes (measured).
    if is_long and (cut := _CUT_STEM.fullmatch(stem)):
        stem = f"{cut[1]}%7E{cut[2]}"
    if len(_utf8(stem)) > NAME_MAX_BYTES - len(SUFFIX):
        stem = _cut(stem, invoice)
    return stem + SUFFIX


def invoice_name(file: str) -> str | None:
    """Return the name of the invoice that has this file name, or None if none can have it.

    Returns None for a cut name, too, because it cannot be mapped back.
    """
    if not file.endswith(SUFFIX):
        return None
    name = _decode(file.removesuffix(SUFFIX))
    return name if name and file_name(name) == file else None


def directory_name(namespace: str) -> str | None:
    """Return the directory name of a namespace, or None if it cannot have one."""
    name = _encode(namespace)
    unusable = namespace in ("", ".", "..") or len(_utf8(name)) > NAME_MAX_BYTES
    return None if unusable else name


def can_be_unlisted_invoice(file: str) -> bool:
    """Return whether a file name that no listing has is worth a request.

    File managers and desktops probe for hidden files all the time; those are never invoices.
    """
    return not file.startswith(".") and invoice_name(file) is not None


def path_bytes(text: str) -> bytes:
    """Return a path, or a name in one, as the bytes that the kernel uses.

    They need not be UTF-8: other bytes are lone surrogates in the text, as in `os.fsdecode`.
    """
    return text.encode("utf-8", "surrogateescape")


def path_text(data: bytes) -> str:
    """Return the inverse of `path_bytes`, whatever the locale is."""
    return data.decode("utf-8", "surrogateescape")


def is_too_long(file: str) -> bool:
    """Return whether a name is too long for a file; FUSE itself allows four times this length."""
    return len(path_bytes(file)) > NAME_MAX_BYTES


def is_cut(file: str) -> bool:
    """Return whether a file name was cut, because the name of its invoice is too long."""
    stem = file.removesuffix(SUFFIX)
    is_long = _SHORTEST_CUT_BYTES <= len(_utf8(stem)) <= NAME_MAX_BYTES - len(SUFFIX)
    return is_long and stem != file and _CUT_STEM.fullmatch(stem) is not None


def can_be_namespace(name: str) -> bool:
    """Return whether this is a DNS label (RFC 1123), as the vendor requires of a namespace."""
    return _DNS_LABEL.fullmatch(name) is not None


def _encode(name: str) -> str:
    return _ENCODED.sub(_percent_encoded, name)


def _percent_encoded(match: re.Match[str]) -> str:
    return quote(_utf8(match[0]), safe="")


def _decode(encoded: str) -> str | None:
    """Return the inverse of `_encode`; None if the result is not text."""
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
