"""The printed table: medians, ratios, and whether the targets are met."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

from tests.bench.rows import KIB, Kind, Row

_ABSENT = "-"
_SECOND_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
_BYTE_UNITS = (("MiB", KIB * KIB), ("KiB", KIB), ("B", 1))

Results = Mapping[str, Mapping[str, Sequence[float]]]
"""The measured values: contestant -> key of a row -> one value for each round."""


class Table:
    """The results, compared with those of the first contestant, the subject."""

    def __init__(self, rows: Sequence[Row], contestants: Sequence[str], results: Results) -> None:
        keys = {row.key for row in rows}
        measured = {key for values in results.values() for key in values}
        self._rows = [row for row in rows if row.key in measured]
        self._subject, *others = contestants
        self._others = [name for name in others if keys & set(results.get(name, ()))]
        self._medians = {
            name: {key: median(values) for key, values in by_row.items()}
            for name, by_row in results.items()
        }

    def lines(self) -> Iterator[str]:
        """Yield the lines, as Markdown."""
        has_limits = any(row.limit_s for row in self._rows)
        limit = ["limit"] if has_limits else []
        cells = [["", self._subject, *limit, *self._others, "target (at least)"]]
        for row in self._rows:
            limit = [self._limit_cell(row)] if has_limits else []
            columns = [self._cell(row, name) for name in self._others]
            cells.append([row.title, self._own_cell(row), *limit, *columns, self._verdict(row)])
        return markdown(cells)

    def _own_cell(self, row: Row) -> str:
        value = self._value(row, self._subject)
        return _ABSENT if value is None else amount(value, row.kind)

    def _limit_cell(self, row: Row) -> str:
        own = self._value(row, self._subject)
        if own is None or row.limit_s is None:
            return _ABSENT
        return f"{significant(own / row.limit_s)}x"

    def _cell(self, row: Row, contestant: str) -> str:
        value, own = self._value(row, contestant), self._value(row, self._subject)
        if value is None:
            return _ABSENT
        if row.kind is Kind.NUMBER:
            return amount(value, row.kind)
        return _ABSENT if not own else f"{significant(value / own)}x"

    def _verdict(self, row: Row) -> str:
        own = self._value(row, self._subject)
        if own is None:
            return ""
        checks = []
        if row.most is not None:
            checks.append((f"at most {amount(row.most, row.kind)}", own <= row.most))
        if row.most_of_limit is not None and row.limit_s is not None:
            words = f"at most {row.most_of_limit:.2g}x the limit"
            checks.append((words, own <= row.most_of_limit * row.limit_s))
        for target in row.targets:
            other = self._value(row, target.contestant)
            if other is not None:
                words = f"{target.contestant} {target.ratio:.2g}x"
                checks.append((words, other >= target.ratio * own))
        return ", ".join(f"{words}: {'met' if met else 'missed'}" for words, met in checks)

    def _value(self, row: Row, contestant: str) -> float | None:
        return self._medians.get(contestant, {}).get(row.key)


def amount(value: float, kind: Kind) -> str:
    """Return a value with its unit, rounded for reading."""
    match kind:
        case Kind.SECONDS:
            return _in_units(value, _SECOND_UNITS)
        case Kind.BYTES:
            return _in_units(value, _BYTE_UNITS)
        case Kind.NUMBER:
            return f"{value:.0f}" if value == int(value) else significant(value)


def significant(value: float) -> str:
    """Return a number with two significant digits, or with all of its integer part."""
    if abs(value) >= 10:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"


def markdown(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of cells, of which the first is the header, in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    head, *rest = cells
    yield _line(head, widths)
    yield _line(["-" * width for width in widths], widths)
    for row in rest:
        yield _line(row, widths)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return f"| {' | '.join(padded)} |"


def _in_units(value: float, units: Iterable[tuple[str, float]]) -> str:
    name, size = next((unit for unit in units if abs(value) >= unit[1]), list(units)[-1])
    return f"{significant(value / size)} {name}"
