"""What the processes of a stress test have seen, and how it is reported."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_EXAMPLES = 5  # of one kind


@dataclass
class Report:
    """Counts of reads by way, of failures by their description, and a few examples."""

    reads: Counter[str] = field(default_factory=Counter)
    stats: int = 0
    requests: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    not_applied: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    wrong_examples: list[str] = field(default_factory=list)
    size_examples: list[str] = field(default_factory=list)

    def note_wrong(self, way: str, words: str) -> None:
        """Count a wrong read."""
        self.wrong[way] += 1
        _keep(self.wrong_examples, [f"{way}: {words}"])

    def note_not_applied(self, kind: str, words: str) -> None:
        """Count an open after which the kernel did not have the true size."""
        self.not_applied[kind] += 1
        _keep(self.size_examples, [words])

    def add(self, other: "Report") -> None:
        """Add the counts of another report."""
        self.reads.update(other.reads)
        self.stats += other.stats
        self.requests += other.requests
        self.wrong.update(other.wrong)
        self.not_applied.update(other.not_applied)
        self.errors.update(other.errors)
        _keep(self.wrong_examples, other.wrong_examples)
        _keep(self.size_examples, other.size_examples)

    def encoded(self) -> str:
        """Return the report as JSON, in one line."""
        return json.dumps(vars(self))

    @property
    def line(self) -> str:
        """The sums, in one line."""
        return (
            f"{self.reads.total()} reads compared, {self.wrong.total()} wrong, "
            f"{self.not_applied.total()} sizes not applied, {self.errors.total()} errors; "
            f"{self.requests} requests, {self.stats} stats meanwhile"
        )


def broken_promises(report: Report, warnings: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each kind of failure; none if all is well."""
    if not report.reads.total():
        yield "Nothing was read."
    for way, times in report.wrong.most_common():
        yield f"Wrong reads with {way}: {times} of {report.reads[way]}."
    yield from (f"For example, {words}" for words in report.wrong_examples)
    for kind, times in report.not_applied.most_common():
        yield f"The kernel did not have the true size of a {kind} after open: {times} times."
    yield from (f"For example, {words}" for words in report.size_examples)
    for words, times in report.errors.most_common():
        yield f"Errors: {words}, {times} times."
    for line in list(warnings)[:_EXAMPLES]:
        yield f"The log says: {line}"


def _keep(examples: list[str], more: Iterable[str]) -> None:
    examples.extend(more)
    del examples[_EXAMPLES:]


def decoded(sent: str) -> Report:
    """Return a report that was sent as JSON, in which a counter is a dict."""
    report = Report()
    report.add(Report(**json.loads(sent)))
    return report
