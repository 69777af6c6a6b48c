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
    "not_available": 14,
    "listings": {
        "count": 3,
        "oldest_s": 1_000_180_000.0,
        "newest_s": 1_000_183_833.0,
        "outdated": [],
    },
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
        "398 of 412 invoices downloaded, 14 not available (unpaid)",
        "38.1 MiB in 3 namespaces, 2 open",
        "3 requested 12 s to 1 h 4 min ago\n",
        "/cache/acme, 1204 hits",
        "PDFs 398 ok, 2 not found; namespace lists 3 ok, 1 no response",
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


def test_the_first_line_says_how_many_invoices_are_downloaded() -> None:
    paid = {**STATUS, "not_available": 0, "invoices": 398}
    one = {**paid, "invoices": 1, "fetched": 0}
    new = {**paid, "invoices": 0, "fetched": 0}

    assert [screen(status)[1].strip() for status in (paid, one, new)] == [
        "398 of 398 invoices downloaded",
        "0 of 1 invoice downloaded",
        "no invoices listed yet",
    ]


def test_results_are_shown_in_words_and_summed_up() -> None:
    results = {"200": 9, "203": 1, "401": 2, "403": 3, "429": 4, "500": 5, "502": 6, "418": 7}
    text = "\n".join(screen({**STATUS, "requests": {"pdf": results}}))

    shown = "PDFs 10 ok, 5 refused, 7 not accepted, 4 rate limited, 11 server error\n"
    assert shown in text


@pytest.mark.parametrize(
    ("listings", "words"),
    [
        ({"count": 0, "outdated": []}, "none requested yet"),
        (
            {"count": 1, "outdated": ["a"]},
            "1 requested 5 s ago; the last good listing of a is shown",
        ),
        (
            {"count": 0, "outdated": ["a", "b", "c"]},
            "none requested yet; the last good listings of a and 2 others are shown",
        ),
    ],
)
def test_the_age_of_the_lists_is_shown(listings: Mapping[str, Any], words: str) -> None:
    newest_s = STATUS["now_s"] - 5
    times = {"oldest_s": newest_s, "newest_s": newest_s}
    lines = screen({**STATUS, "listings": {**times, **listings}})
    (line,) = [line for line in lines if line.startswith("  listings ")]

    assert line.split(maxsplit=1)[1] == words


def test_a_mount_of_an_earlier_version_is_shown() -> None:
    new = ("not_available", "listings")
    text = "\n".join(screen({key: value for key, value in STATUS.items() if key not in new}))

    assert "398 of 412 invoices downloaded\n" in text


@pytest.mark.parametrize("columns", [40, 80])
def test_lines_are_wrapped_between_words(columns: int) -> None:
    trouble = {"words": "/system/a.pdf: the server answered 500", "last_s": 1e9, "count": 3}
    status = {**STATUS, "troubles": [trouble]}

    lines = screen(status, columns)

    assert max(map(len, lines)) <= columns
    assert " ".join(" ".join(lines).split()) == " ".join(" ".join(screen(status)).split())
