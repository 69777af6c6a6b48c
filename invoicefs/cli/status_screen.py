"""The status of a mount as text."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from invoicefs.cli.output import counted
from invoicefs.units import rounded_size

_KINDS: Final = {
    "namespaces": "namespace lists",
    "invoices": "listings",
    "pdf": "PDFs",
}
_RESULTS: Final = {
    "400": "not accepted",
    "401": "refused",
    "403": "refused",
    "404": "not found",
    "408": "timed out",
    "409": "busy",
    "429": "rate limited",
    "503": "unavailable",
    "504": "timed out",
    "no answer": "no response",
}
_CLASSES: Final = {"2": "ok", "3": "redirected", "4": "not accepted", "5": "server error"}
_MAX_FAILURES: Final = 8
_LABEL_CHARACTERS: Final = 12
_FAILURE_INDENT: Final = "    "


def screen(status: Mapping[str, Any], columns: int | None = None) -> tuple[str, ...]:
    """Return the lines that show a status; `mount.control_server` defines its keys.

    With `columns`, lines are wrapped between words.
    """
    facts = {
        "content": _content(status),
        "listings": _listings(status),
        "requests": "; ".join(_requests(status)) or "none yet",
        "now": _now(status),
        "cache": _cache(status),
        "tenant": status["url"],
        "credential": status["credential"],
        "since": _since(status),
    }
    lines = [
        status["mount_point"],
        f"  {_downloaded(status)}",
        *(f"  {label:<{_LABEL_CHARACTERS}}{text}" for label, text in facts.items()),
        *_failures(status),
    ]
    if columns is None:
        return tuple(lines)
    return tuple(wrapped for line in lines for wrapped in _wrapped(line, columns))


def _wrapped(line: str, columns: int) -> list[str]:
    """Wrap a line; a path is not broken, so that it can be copied."""
    is_failure = line.startswith(_FAILURE_INDENT)
    indent = 2 * _FAILURE_INDENT if is_failure else " " * (2 + _LABEL_CHARACTERS)
    found = textwrap.wrap(
        line,
        columns,
        subsequent_indent=indent,
        replace_whitespace=False,  # control characters are escaped when the line is printed
        expand_tabs=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return found or [line]


def _downloaded(status: Mapping[str, Any]) -> str:
    count = status["invoices"]
    if not count:
        return "no invoices listed yet"
    words = f"{status['fetched']} of {counted(count, 'invoice')} downloaded"
    missing = status.get("not_available", 0)  # a mount of an earlier version does not know
    return f"{words}, {missing} not available (unpaid)" if missing else words


def _content(status: Mapping[str, Any]) -> str:
    size = rounded_size(status["fetched_bytes"])
    namespaces = counted(status["namespaces"], "namespace")
    return f"{size} in {namespaces}, {counted(status['open'], 'open file')}"


def _listings(status: Mapping[str, Any]) -> str:
    listings = status.get("listings")
    if listings is None:  # a mount of an earlier version
        return "unknown"
    words = "none requested yet"
    if listings["count"]:
        newest, oldest = (
            _duration(status["now_s"] - listings[key]) for key in ("newest_s", "oldest_s")
        )
        ages = newest if newest == oldest else f"{newest} to {oldest}"
        words = f"{listings['count']} requested {ages} ago"
    match listings["outdated"]:
        case [namespace]:
            words += f"; the last good listing of {namespace} is shown"
        case [namespace, other]:
            words += f"; the last good listings of {namespace} and {other} are shown"
        case [namespace, *others]:
            words += f"; the last good listings of {namespace} and {len(others)} others are shown"
    return words


def _requests(status: Mapping[str, Any]) -> Iterator[str]:
    for kind, results in status["requests"].items():
        counts: Counter[str] = Counter()
        for result, count in sorted(results.items()):
            counts[_words_of(result)] += count
        parts = [f"{count} {words}" for words, count in counts.items()]
        yield f"{_KINDS.get(kind, kind)} {', '.join(parts)}"


def _words_of(result: str) -> str:
    return _RESULTS.get(result) or _CLASSES.get(result[:1], result)


def _now(status: Mapping[str, Any]) -> str:
    calls = status["calls"]
    running = (
        f"{calls['running']} of {calls['parallel']} requests in flight, {calls['waiting']} queued"
    )
    cool_downs = [
        f"{_KINDS.get(kind, kind)} cool down for {left_s:.0f} s"
        for kind, left_s in status["cool_downs_s"].items()
    ]
    return "; ".join([running, *cool_downs])


def _cache(status: Mapping[str, Any]) -> str:
    store = status["store"]
    hits = f"{status['store_hits']} hits"
    failure = f"; cannot be used now: {store['trouble']}" if store["trouble"] else ""
    return f"{store['folder']}, {hits}{failure}"


def _since(status: Mapping[str, Any]) -> str:
    began = datetime.fromtimestamp(status["since_s"])
    age = _duration(status["now_s"] - status["since_s"])
    return f"{began:%Y-%m-%d %H:%M} ({age}), process {status['pid']}, {status['version']}"


def _failures(status: Mapping[str, Any]) -> Iterator[str]:
    failures = status["troubles"][-_MAX_FAILURES:]
    if not failures:
        return
    yield "  recent failures"
    for failure in reversed(failures):
        when = datetime.fromtimestamp(failure["last_s"])
        times = f" ({failure['count']} times)" if failure["count"] > 1 else ""
        yield f"{_FAILURE_INDENT}{when:%m-%d %H:%M}  {failure['words']}{times}"


def _duration(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)} s"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
