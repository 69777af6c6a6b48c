"""The table and the JSON of the benchmark: medians, ratios, targets."""

import json
from dataclasses import replace

import pytest

from tests.bench.json_results import as_json
from tests.bench.rows import Kind, Row, Target
from tests.bench.table import Results, Table, amount, markdown

COPY = Row("copy", "copy", targets=(Target("xargs", 2.0), Target("rclone", 6.0)))
REQUESTS = Row("requests", "requests", Kind.NUMBER, most=201.0)
CONTESTANTS = ("invoicefs", "xargs", "rclone", "local")


def table(results: Results, *rows: Row) -> list[list[str]]:
    lines = Table(rows, CONTESTANTS, results).lines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_cell_is_the_ratio_of_medians() -> None:
    results = {"invoicefs": {"copy": [1.0, 2.0, 90.0]}, "xargs": {"copy": [5.0, 4.0, 1.0]}}
    _, _, (title, own, ratio, _) = table(results, COPY)
    assert (title, own, ratio) == ("copy", "2.0 s", "2.0x")


def test_numbers_are_shown_as_they_are() -> None:
    results = {"invoicefs": {"requests": [201.0]}, "rclone": {"requests": [401.0]}}
    _, _, row = table(results, REQUESTS)
    assert row == ["requests", "201", "401", "at most 201: met"]


def test_a_target_is_shown_where_both_were_measured() -> None:
    results = {"invoicefs": {"copy": [1.0]}, "rclone": {"copy": [5.9]}}
    _, _, row = table(results, COPY)
    assert row[-1] == "rclone 6x: missed"


def test_an_exceeded_bound_is_shown() -> None:
    _, _, row = table({"invoicefs": {"requests": [202.0]}}, REQUESTS)
    assert row[-1] == "at most 201: missed"


def test_the_limit_is_a_column_if_a_row_has_one() -> None:
    results = {"invoicefs": {"copy": [3.0], "requests": [201.0]}, "xargs": {"copy": [6.0]}}
    limited = Row("copy", "copy", limit_s=2.0, most_of_limit=1.4)
    head, _, copy, requests = table(results, limited, REQUESTS)
    assert head == ["", "invoicefs", "limit", "xargs", "target (at least)"]
    assert copy == ["copy", "3.0 s", "1.5x", "2.0x", "at most 1.4x the limit: missed"]
    assert requests[2] == "-"


def test_a_limit_without_a_measurement_is_not_judged() -> None:
    limited = Row("copy", "copy", limit_s=2.0, most_of_limit=1.4)
    _, _, row = table({"xargs": {"copy": [2.0]}}, limited)
    assert row == ["copy", "-", "-", "-", ""]


def test_rows_and_columns_without_a_value_are_left_out() -> None:
    results = {"invoicefs": {"copy": [1.0]}, "xargs": {"copy": [2.0]}, "local": {"other": [1.0]}}
    head, _, *rows = table(results, COPY, REQUESTS)
    assert head == ["", "invoicefs", "xargs", "target (at least)"]
    assert [row[0] for row in rows] == ["copy"]


def test_a_missing_measurement_is_a_dash() -> None:
    results = {"invoicefs": {"copy": [1.0], "requests": [1.0]}, "xargs": {"copy": [2.0]}}
    assert table(results, COPY, REQUESTS)[-1][2] == "-"


def test_without_invoicefs_there_are_no_ratios() -> None:
    _, _, row = table({"xargs": {"copy": [2.0]}}, COPY)
    assert row == ["copy", "-", "-", ""]


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (12.34, Kind.SECONDS, "12 s"),
        (1.234, Kind.SECONDS, "1.2 s"),
        (0.0567, Kind.SECONDS, "57 ms"),
        (0.000_085, Kind.SECONDS, "85 µs"),
        (0.0, Kind.SECONDS, "0 µs"),
        (35.4 * 1024 * 1024, Kind.BYTES, "35 MiB"),
        (1536.0, Kind.BYTES, "1.5 KiB"),
        (612.0, Kind.BYTES, "612 B"),
        (-20.0, Kind.BYTES, "-20 B"),
        (201.0, Kind.NUMBER, "201"),
        (9.96, Kind.NUMBER, "10.0"),
    ],
)
def test_an_amount_has_two_significant_digits(value: float, kind: Kind, words: str) -> None:
    assert amount(value, kind) == words


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert list(markdown([["", "long"], ["row", "x"]])) == [
        "|     | long |",
        "| --- | ---- |",
        "| row | x    |",
    ]


def test_json_has_all_values_of_the_measured_rows_in_base_units() -> None:
    results = {"invoicefs": {"copy": [3.0, 1.0, 2.5]}, "xargs": {"copy": [4.0], "other": [1.0]}}
    copy = replace(COPY, limit_s=0.5)
    assert json.loads(as_json((copy, REQUESTS), results, {"description": "a machine"})) == {
        "description": "a machine",
        "rows": [
            {
                "row": "copy",
                "title": "copy",
                "unit": "s",
                "limit": 0.5,
                "contestants": {
                    "invoicefs": {"median": 2.5, "values": [3.0, 1.0, 2.5]},
                    "xargs": {"median": 4.0, "values": [4.0]},
                },
            }
        ],
    }
