"""The answer of a mount to ``status`` as a screen of text."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from invoicefs.units import rounded_size

_KINDS: Final = {
    "namespaces": "lists of namespaces",
    "invoices": "lists of invoices",
    "pdf": "PDFs",
}
_MOST_TROUBLES: Final = 8
_LABEL_CHARACTERS: Final = 12


def screen(status: Mapping[str, Any]) -> tuple[str, ...]:
    """All there is to say of one mount, in lines; `status` is what `answering` makes."""
    facts = {
        "tenant": status["url"],
        "credential": status["credential"],
        "since": _since(status),
        "invoices": _invoices(status),
        "store": _store(status),
        "API calls": "; ".join(_requests(status)) or "none yet",
        "now": _now(status),
    }
    labelled = [f"  {label:<{_LABEL_CHARACTERS}}{text}" for label, text in facts.items()]
    return (status["mount_point"], *labelled, *_troubles(status))


def _since(status: Mapping[str, Any]) -> str:
    began = datetime.fromtimestamp(status["since_s"])
    age = _duration(status["now_s"] - status["since_s"])
    return f"{began:%Y-%m-%d %H:%M} ({age}), process {status['pid']}, {status['version']}"


def _invoices(status: Mapping[str, Any]) -> str:
    plural = "" if status["namespaces"] == 1 else "s"
    known = f"{status['invoices']} listed in {status['namespaces']} namespace{plural}"
    fetched = f"{status['fetched']} fetched ({rounded_size(status['fetched_bytes'])})"
    return f"{known}, {fetched}, {status['open']} open"


def _store(status: Mapping[str, Any]) -> str:
    store = status["store"]
    hits = f"{status['store_hits']} times used instead of a call"
    trouble = f"; cannot be used now: {store['trouble']}" if store["trouble"] else ""
    return f"{store['folder']}, {hits}{trouble}"


def _requests(status: Mapping[str, Any]) -> Iterator[str]:
    for kind, results in status["requests"].items():
        counts = [f"{count} x {result}" for result, count in sorted(results.items())]
        yield f"{_KINDS.get(kind, kind)} {', '.join(counts)}"


def _now(status: Mapping[str, Any]) -> str:
    calls = status["calls"]
    running = f"{calls['running']} of at most {calls['parallel']} calls, {calls['waiting']} waiting"
    pauses = [
        f"{_KINDS.get(kind, kind)} pause for {left_s:.0f} s more"
        for kind, left_s in status["cool_downs_s"].items()
    ]
    return "; ".join([running, *pauses])


def _troubles(status: Mapping[str, Any]) -> Iterator[str]:
    troubles = status["troubles"][-_MOST_TROUBLES:]
    if not troubles:
        return
    yield "  went wrong lately"
    for each in reversed(troubles):
        when = datetime.fromtimestamp(each["last_s"])
        times = f" ({each['count']} times)" if each["count"] > 1 else ""
        yield f"    {when:%m-%d %H:%M}  {each['words']}{times}"


def _duration(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)} s"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
