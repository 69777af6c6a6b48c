"""The result of comparing an archive, as text, as JSON and as a file for ``sha256sum -c``."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from invoicefs.cli.archive import Finding, State


@dataclass(frozen=True, slots=True)
class Report:
    """The findings in an archive, by path, and what kept the comparison from being complete.

    `path` is what the archive was compared with. `remarks` do not concern the archive.
    """

    archive: str
    path: str
    findings: tuple[Finding, ...]
    failures: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    is_of_one_invoice: bool = False

    @property
    def is_ok(self) -> bool:
        """Whether the archive is a complete and unchanged copy."""
        return not self.failures and not any(finding.is_fault for finding in self.findings)

    @property
    def unknown_count(self) -> int:
        """How many invoices the archive has whose SHA-256 is not known."""
        return sum(
            finding.state is State.NOT_VERIFIED and finding.expected is None
            for finding in self.findings
        )

    def fault_lines(self) -> Iterator[str]:
        """Yield a line for each finding that is a fault."""
        return (_line(finding) for finding in self.findings if finding.is_fault)

    def lines(self) -> Iterator[str]:
        """Yield the lines of a report: what is not right, and a summary."""
        yield from (_line(found) for found in self.findings if found.state is not State.RIGHT)
        counts = self._counts()
        facts = [f"{counts[state]} {state}" for state in State if counts[state]]
        if facts:
            yield f"{self.archive}: {', '.join(facts)}."
        if counts[State.MISSING] and counts[State.EXTRA] and not counts[State.RIGHT]:
            yield (
                f"No file has the path of an invoice in {self.path}: the archive may be that of "
                "another tenant or namespace, or ARCHIVE may be the wrong folder."
            )

    def as_json(self) -> Mapping[str, object]:
        """Return the report as a JSON object, with every file."""
        counts = self._counts()
        return {
            "archive": self.archive,
            "path": self.path,
            "ok": self.is_ok,
            "counts": {state.value: counts[state] for state in State},
            "failures": self.failures,
            "remarks": self.remarks,
            "files": [
                {
                    "path": finding.path,
                    "state": finding.state.value,
                    "fault": finding.is_fault,
                    "words": finding.words or None,
                    "sha256": finding.expected,
                }
                for finding in self.findings
            ],
        }

    def sums(self) -> dict[str, str]:
        """Return the SHA-256 that each file should have, by its path, where that is known."""
        return {found.path: found.expected for found in self.findings if found.expected}

    def _counts(self) -> Counter[State]:
        return Counter(finding.state for finding in self.findings)


def _line(finding: Finding) -> str:
    words = f" ({finding.words})" if finding.words else ""
    return f"{finding.state}: {finding.path}{words}"
