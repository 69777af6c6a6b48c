"""The output of ``invoicefs status`` for people."""

from collections.abc import Mapping
from typing import Any

import pytest

from invoicefs.cli.status_screen import screen

STATUS: Mapping[str, Any] = {
    "version": "1.2.3",
    "pid": 77,
    "mount_point": "/home/alice/invoices",
    "url": "https://acme.example",
    "credential": "the token from the token file /t (--token-file)",
    "since_s": 1_000_000_000.0,
    "now_s": 1_000_000_000.0 + 2 * 86_400 + 3 * 3600 + 4 * 60 + 5,
    "namespaces": 3,
    "invoices": 412,
    "fetched": 398,
    "fetched_bytes": 40_000_000,
    "open": 2,
    "store": {"folder": "/cache/acme", "trouble": None},
    "store_hits": 1204,
    "downloads": 398,
    "requests": {"pdf": {"404": 2, "200": 398}, "namespaces": {"no answer": 1, "200": 3}},
    "calls": {"running": 2, "waiting": 5, "parallel": 8},
    "cool_downs_s": {},
    "troubles": [],
}


def test_every_fact_is_shown() -> None:
    text = "\n".join(screen(STATUS))

    for part in (
        "/home/alice/invoices\n",
        "https://acme.example",
        "the token from the token file /t (--token-file)",
        "(2 d 3 h 4 min), process 77, 1.2.3",
        "412 listed in 3 namespaces, 398 downloaded (38.1 MiB), 2 open",
        "/cache/acme, 1204 hits",
        "PDFs 398 x 200, 2 x 404; namespace lists 3 x 200, 1 x no answer",
        "2 of 8 requests in flight, 5 queued",
    ):
        assert part in text
    assert "failures" not in text
    assert "cool down" not in text


def test_recent_failures_are_shown_latest_first_with_counts() -> None:
    troubles = [
        {"words": f"/system/{number}.pdf: no", "last_s": 1e9 + 60 * number, "count": number}
        for number in range(1, 20)
    ]
    lines = list(screen({**STATUS, "troubles": troubles}))

    start = lines.index("  recent failures") + 1
    assert lines[start].endswith("  /system/19.pdf: no (19 times)")
    assert len(lines[start:]) == 8
    assert screen({**STATUS, "troubles": troubles[:1]})[-1].endswith("/system/1.pdf: no")


def test_cool_downs_and_an_unusable_cache_are_shown() -> None:
    store = {"folder": "/cache/acme", "trouble": "the disk is full"}
    text = "\n".join(screen({**STATUS, "cool_downs_s": {"pdf": 12.4}, "store": store}))

    assert "5 queued; PDFs cool down for 12 s" in text
    assert "cannot be used now: the disk is full" in text


@pytest.mark.parametrize(("age_s", "text"), [(0, "(0 s)"), (59, "(59 s)"), (61, "(1 min)")])
def test_the_age_of_a_new_mount_is_shown(age_s: float, text: str) -> None:
    assert text in "\n".join(screen({**STATUS, "now_s": STATUS["since_s"] + age_s}))
