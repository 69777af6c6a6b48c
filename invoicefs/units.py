"""Parsing and formatting of sizes, durations and octal numbers. Pure functions."""

import re
from decimal import Decimal

from invoicefs.errors import UsageError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmg])(?:i?b)?|b)?", re.IGNORECASE | re.ASCII)
_SIZE_UNITS = {"": 1, "k": KIB, "m": MIB, "g": GIB}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?", re.IGNORECASE | re.ASCII)
_DURATION_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_OCTAL = re.compile(r"(?:0o)?[0-7]{1,4}", re.ASCII)
_MAX_BYTES = 2**63 - 1  # of an off_t
MAX_DURATION_S = 365 * 86_400.0  # much longer waits overflow in locks


def parse_size_bytes(text: str) -> int:
    """Return the bytes of a size like ``16MiB``, ``64k`` or ``1.5G``; units are powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is not a size: write a number and KiB, MiB or GiB, as in 16MiB."
        )
    number, unit = match.groups(default="")
    factor = _SIZE_UNITS[unit.lower()]
    size_bytes = Decimal(number) * factor
    if size_bytes > _MAX_BYTES:
        raise UsageError(f"{text!r} is not a size: it must be less than 8 EiB.")
    return int(size_bytes)


def format_size_bytes(size_bytes: int) -> str:
    """Return an exact size in the largest possible unit, the inverse of `parse_size_bytes`.

    >>> format_size_bytes(16 * MIB)
    '16MiB'
    """
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def rounded_size(size_bytes: int) -> str:
    """Return a size for people, in a suitable unit.

    >>> rounded_size(40_000_000)
    '38.1 MiB'
    """
    for unit, factor in (("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"


def parse_duration_s(text: str) -> float:
    """Return the seconds of a duration like ``30``, ``90s``, ``5m`` or ``1h``."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a duration: write a number and s, m or h, as in 5m.")
    seconds = float(match[1]) * _DURATION_UNITS_S[(match[2] or "").lower()]
    if seconds > MAX_DURATION_S:
        raise UsageError(f"{text!r} is not a duration: it is longer than a year.")
    return seconds


def parse_octal(text: str) -> int:
    """Return the value of an octal number like ``022`` or ``0o22``."""
    if _OCTAL.fullmatch(text) is None:
        raise UsageError(f"{text!r} is not an octal number like 022.")
    return int(text, 8)
