"""Parses the header ``Retry-After`` (RFC 9110, 10.2.3)."""

import email.utils
import time

_MAX_S = 365 * 86_400.0


def retry_after_s(value: str) -> float | None:
    """Return the wait in a value of the header: seconds or a date; None if it is invalid."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _MAX_S)  # many digits make a float infinite
    try:
        moment = email.utils.parsedate_to_datetime(value)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
