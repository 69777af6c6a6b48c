"""The status of a mount as text."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from invoicefs.units import rounded_size

_KINDS: Final = {
    "namespaces": "namespace lists",
    "invoices": "listings",
    "pdf": "PDFs",
}
_MAX_FAILURES: Final = 8
_LABEL_CHARACTERS: Final = 12


def screen(status: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the lines that show a status; `mount.control_server` defines its keys."""
    facts = {
        "tenant": status["url"],
        "credential": status["credential"],
        "since": _since(status),
        "invoices": _invoices(status),
        "cache": _cache(status),
        "requests": "; ".join(_requests(status)) or "none yet",
        "now": _now(status),
    }
    labelled = [f"  {label:<{_LABEL_CHARACTERS}}{text}" for label, text in facts.items()]
    return (status["mount_point"], *labelled, *_failures(status))


def _since(status: Mapping[str, Any]) -> str:
    began = datetime.fromtimestamp(status["since_s"])
    age = _duration(status["now_s"] - status["since_s"])
    return f"{began:%Y-%m-%d %H:%M} ({age}), process {status['pid']}, {status['version']}"


def _invoices(status: Mapping[str, Any]) -> str:
    plural = "" if status["namespaces"] == 1 else "s"
    known = f"{status['invoices']} listed in {status['namespaces']} namespace{plural}"
    fetched = f"{status['fetched']} downloaded ({rounded_size(status['fetched_bytes'])})"
    return f"{known}, {fetched}, {status['open']} open"


def _cache(status: Mapping[str, Any]) -> str:
    store = status["store"]
    hits = f"{status['store_hits']} hits"
    failure = f"; cannot be used now: {store['trouble']}" if store["trouble"] else ""
    return f"{store['folder']}, {hits}{failure}"


def _requests(status: Mapping[str, Any]) -> Iterator[str]:
    for kind, results in status["requests"].items():
        counts = [f"{count} x {result}" for result, count in sorted(results.items())]
        yield f"{_KINDS.get(kind, kind)} {', '.join(counts)}"


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


def _failures(status: Mapping[str, Any]) -> Iterator[str]:
    failures = status["troubles"][-_MAX_FAILURES:]
    if not failures:
        return
    yield "  recent failures"
    for failure in reversed(failures):
        when = datetime.fromtimestamp(failure["last_s"])
        times = f" ({failure['count']} times)" if failure["count"] > 1 else ""
        yield f"    {when:%m-%d %H:%M}  {failure['words']}{times}"


def _duration(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)} s"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
