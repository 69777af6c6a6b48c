"""The results as JSON, for programs that compare versions."""

import json
from collections.abc import Mapping, Sequence
from statistics import median

from tests.bench.rows import Kind, Row
from tests.bench.table import Results

_UNITS = {Kind.SECONDS: "s", Kind.BYTES: "B", Kind.NUMBER: ""}


def as_json(rows: Sequence[Row], results: Results, facts: Mapping[str, object]) -> str:
    """Return the measured rows with the values of all rounds and their medians, in base units.

    `limit` is the least time of a row, or null. `facts` are included as they are.
    """
    measured = {key for values in results.values() for key in values}
    found = [_row(row, results) for row in rows if row.key in measured]
    return json.dumps({**facts, "rows": found}, indent=2, ensure_ascii=False)


def _row(row: Row, results: Results) -> dict[str, object]:
    values = {name: by_row[row.key] for name, by_row in results.items() if row.key in by_row}
    return {
        "row": row.key,
        "title": row.title,
        "unit": _UNITS[row.kind],
        "limit": row.limit_s,
        "contestants": {
            name: {"median": median(rounds), "values": list(rounds)}
            for name, rounds in values.items()
        },
    }
